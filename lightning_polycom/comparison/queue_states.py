"""How far jobs are, as SLURM's queue says, which needs no accounting: many small clusters have none."""

import subprocess
from collections.abc import Iterable

ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
}
FORGOTTEN = "no longer in the queue"
_SECONDS = 60


def queue_states(jobs: Iterable[str]) -> dict[str, str] | None:
    """The state of each job, in SLURM's words; FORGOTTEN for one that ended some minutes ago. None: no answer."""
    jobs = list(jobs)
    command = ["squeue", "--noheader", "--states=all", "--format=%i %T", f"--jobs={','.join(jobs)}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode != 0 and "Invalid job id" not in answer.stderr:
        return None
    known = dict(line.split(maxsplit=1) for line in answer.stdout.splitlines() if line.strip())
    return {job: known.get(job, FORGOTTEN).strip() for job in jobs}


def has_ended(state: str) -> bool:
    """Whether a job in this state will not run any more; one that is queued again will."""
    return state in ENDED or state == FORGOTTEN

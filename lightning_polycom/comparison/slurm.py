"""The runs of a comparison as jobs of a cluster, through submitit."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from lightning_polycom.atomic import write_text
from lightning_polycom.callbacks.preemption import EXIT_CODE
from lightning_polycom.comparison.command import failure_line
from lightning_polycom.comparison.config import ComparisonConfig, SlurmConfig
from lightning_polycom.comparison.local import outcome
from lightning_polycom.comparison.processes import GRACE_SECONDS
from lightning_polycom.comparison.record import RunEntry
from lightning_polycom.comparison.settling import PlannedRuns
from lightning_polycom.errors import InputError

POLL_SECONDS = 10.0


class FitJob:
    """What a job does: the run's command, in each of the job's processes. Returns its exit code."""

    def __init__(self, command: list[str]):
        self.command = command

    def __call__(self) -> int:
        """Runs until the end, or until `checkpoint` stops it."""
        self._process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL)
        return self._process.wait()

    def checkpoint(self) -> Any:
        """Saves when the job's time is up or its node is taken; submitit then queues it again, and it goes on."""
        from submitit.helpers import DelayedSubmission

        self._process.terminate()
        self._process.wait(GRACE_SECONDS)
        return DelayedSubmission(FitJob(self.command))


def run_on_cluster(
    runs: PlannedRuns, console: Console, cluster: str = "slurm", poll_seconds: float = POLL_SECONDS
) -> None:
    """Submits a job for each run that is not finished and has none, and waits for all of them.

    The jobs go on if this process ends; started again, it waits for those that it had submitted.

    Raises:
        InputError: submitit or the cluster's commands are missing, or it refuses a job.
    """
    executor = _executor(runs.record.folder / "jobs", runs.config.slurm, runs.config.name, cluster)
    waiting = {}
    for entry in runs.unfinished():
        job = _known_job(executor, runs, entry)
        if job is None:
            job = _submit(executor, FitJob(runs.command(entry)))
            entry.job = job.job_id
            runs.record.update(entry, "running")
            console.print(f"{entry.key}: job {job.job_id}", highlight=False)
        waiting[entry.key] = (entry, job)
    while waiting:
        for key, (entry, job) in list(waiting.items()):
            if job.done():
                _finish(runs, entry, job)
                del waiting[key]
                console.print(f"{key}: {outcome(entry)}", highlight=False, soft_wrap=True, markup=False)
        if waiting:
            time.sleep(poll_seconds)


def run_job(folder: Path, config: ComparisonConfig, command: Sequence[str], log: Path) -> int:
    """Runs one command as a job, waits for it, and puts its output into the file `log`; its exit code."""
    job = _submit(_executor(folder, config.slurm, config.name, "slurm"), FitJob(list(command)))
    codes = job.results()
    write_text(log, f"{job.stdout() or ''}\n{job.stderr() or ''}")
    return max(codes, key=abs)


def _executor(folder: Path, config: SlurmConfig, name: str, cluster: str) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise InputError(
            "launcher: slurm needs submitit, of the extra 'slurm'; pip install 'lightning-polycom[slurm]'"
        ) from error
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    except RuntimeError as error:
        raise InputError(f"launcher: {' '.join(str(error).split())}; start it on a machine of the cluster") from error
    wanted = {
        "name": name,
        "timeout_min": config.minutes,
        "nodes": config.nodes,
        "tasks_per_node": max(1, config.gpus_per_node),
        "gpus_per_node": config.gpus_per_node,
        "cpus_per_task": config.cpus_per_task,
        "mem_gb": config.memory_gb,
        "slurm_partition": config.partition,
        "slurm_account": config.account,
        "slurm_qos": config.qos,
        "slurm_constraint": config.constraint,
    }
    executor.update_parameters(**{key: value for key, value in wanted.items() if value is not None})
    return executor


def _known_job(executor: Any, runs: PlannedRuns, entry: RunEntry) -> Any:
    """The job that an earlier start has submitted for a run, if it is not known to have ended."""
    if entry.status != "running" or entry.job is None:
        return None
    tasks = range(runs.config.slurm.nodes * max(1, runs.config.slurm.gpus_per_node))
    return executor.job_class(runs.record.folder / "jobs", entry.job, tasks=list(tasks))


def _submit(executor: Any, job: FitJob) -> Any:
    from submitit.core.utils import FailedJobError

    try:
        return executor.submit(job)
    except (FailedJobError, OSError) as error:
        raise InputError(f"launcher: the cluster refused a job: {' '.join(str(error).split())}") from error


def _finish(runs: PlannedRuns, entry: RunEntry, job: Any) -> None:
    """Judges a run whose job is over."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    entry.job = None
    try:
        codes = job.results()
    except (FailedJobError, UncompletedJobError) as error:  # cancelled, out of memory, a lost node
        last = [line for line in str(error).splitlines() if line.strip()][-1].strip()
        runs.record.update(entry, "failed", f"job {job.job_id} ({job.state}): {last}")
        return
    if EXIT_CODE in codes:
        runs.record.update(entry, "pending")
    elif any(codes):
        output = f"{job.stdout() or ''}\n{job.stderr() or ''}"
        runs.record.update(entry, "failed", failure_line(output, max(codes, key=abs)))
    else:
        runs.settle(entry)

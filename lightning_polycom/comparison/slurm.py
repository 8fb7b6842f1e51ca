"""The runs of a comparison as jobs of a cluster, through submitit."""

import contextlib
import io
import pickle
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from lightning_polycom.atomic import write_text
from lightning_polycom.comparison.command import failure_line
from lightning_polycom.comparison.config import ComparisonConfig, SlurmConfig
from lightning_polycom.comparison.fit_job import SAVED, FitJob
from lightning_polycom.comparison.local import outcome
from lightning_polycom.comparison.processes import GRACE_SECONDS, Stopped
from lightning_polycom.comparison.queue_states import has_ended, queue_states
from lightning_polycom.comparison.record import RunEntry
from lightning_polycom.comparison.settling import PlannedRuns
from lightning_polycom.errors import InputError

POLL_SECONDS = 10.0
RESULT_SECONDS = 15.0  # until a result is seen through a network's file system
NO_LIMIT = 10**9


def run_on_cluster(runs: PlannedRuns, console: Console, poll_seconds: float = POLL_SECONDS) -> None:
    """Submits a job for each run that is not finished and has none, and waits for all of them.

    The jobs go on if this process ends; started again, it waits for those that it had submitted.

    Raises:
        InputError: submitit or the cluster's commands are missing, or it refuses a job.
        Stopped: jobs were stopped from outside, such as by scancel; their runs are saved and pending.
    """
    executor = _executor(_jobs_folder(runs), runs.config.slurm, runs.config.name)
    waiting = {}
    for entry in runs.unfinished():
        job = _known_job(runs, entry)
        if job is None:
            job = _start(executor, runs, entry)
            console.print(f"{entry.key}: job {job.job_id}", highlight=False)
        else:
            console.print(f"{entry.key}: job {job.job_id}, submitted before", highlight=False)
        waiting[job.job_id] = (entry, job)
    stopped = []
    try:
        for number, state in _ends(set(waiting), console, poll_seconds):
            entry, job = waiting[number]
            _finish(runs, entry, job, state)
            console.print(f"{entry.key}: {outcome(entry)}", highlight=False, soft_wrap=True, markup=False)
            if entry.status == "pending":
                stopped.append(str(entry.key))
    except (KeyboardInterrupt, Stopped):
        console.print("the jobs go on without this command", highlight=False)
        raise
    if stopped:
        raise Stopped(f"the job of {', '.join(stopped)} was ended from outside")


def run_job(
    folder: Path,
    config: ComparisonConfig,
    console: Console,
    command: Sequence[str],
    log: Path,
    poll_seconds: float = POLL_SECONDS,
) -> int:
    """Runs one command as a job, waits for it, and puts its output into the file `log`; its exit code.

    Raises:
        InputError: the cluster refuses the job, or ends it.
    """
    executor = _executor(folder, config.slurm, config.name)
    job = _submit(executor, FitJob(list(command), log.stem, _seconds_to_save(config.slurm)))
    try:
        ((_, state),) = _ends({job.job_id}, console, poll_seconds)
    except BaseException:  # what it works on is deleted by the caller
        job.cancel(check=False)
        raise
    codes = _exit_codes(job)
    if isinstance(codes, str):
        raise InputError(f"launcher: job {job.job_id} ({state}): {codes}")
    write_text(log, _output(job))
    return max(codes, key=abs)


def _jobs_folder(runs: PlannedRuns) -> Path:
    return runs.record.folder / "jobs"


def _notice_seconds(config: SlurmConfig) -> int:
    """How long before its time is up a job is told: a quarter of the time, at most what a step and its save may take.

    SLURM may tell it up to a minute earlier, never later.
    """
    return min(GRACE_SECONDS, 15 * config.minutes)


def _seconds_to_save(config: SlurmConfig) -> float:
    """What the command gets of the notice; the rest is for queueing the job again."""
    return 0.8 * _notice_seconds(config)


def _executor(folder: Path, config: SlurmConfig, name: str) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise InputError(
            "launcher: slurm needs submitit, of the extra 'slurm'; pip install 'lightning-polycom[slurm]'"
        ) from error
    try:
        executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=NO_LIMIT)
    except RuntimeError as error:
        raise InputError(f"launcher: {' '.join(str(error).split())}; start it on a machine of the cluster") from error
    wanted = {
        "job_name": name,
        "time": config.minutes,
        "nodes": config.nodes,
        "ntasks_per_node": max(1, config.gpus_per_node),
        "gpus_per_node": config.gpus_per_node or None,  # 0 is refused by clusters without GPUs
        "cpus_per_task": config.cpus_per_task,
        "mem": None if config.memory_gb is None else f"{config.memory_gb}GB",
        "partition": config.partition,
        "account": config.account,
        "qos": config.qos,
        "constraint": config.constraint,
        "signal_delay_s": _notice_seconds(config),
        # From SLURM 22.05 on srun has this from its own option, not from the job's.
        "srun_args": [f"--cpus-per-task={config.cpus_per_task}"],
        "additional_parameters": {"requeue": True},  # clusters with JobRequeue=0 forbid it otherwise
    }
    executor.update_parameters(**{key: value for key, value in wanted.items() if value is not None})
    return executor


def _known_job(runs: PlannedRuns, entry: RunEntry) -> Any:
    """The job that an earlier start has submitted for a run, if it is not known to have ended."""
    import submitit

    if entry.status != "running":
        return None
    if entry.job is None:
        entry.job = _unrecorded_job(runs, entry)
    if entry.job is None:
        return None
    tasks = range(runs.config.slurm.nodes * max(1, runs.config.slurm.gpus_per_node))
    return submitit.SlurmJob(_jobs_folder(runs), entry.job, tasks=list(tasks))


def _unrecorded_job(runs: PlannedRuns, entry: RunEntry) -> str | None:
    """A job of this run that is still there, submitted by a start that was killed before it had noted its number."""
    from submitit.core.utils import DelayedSubmission

    submitted = {path.name.split("_")[0]: path for path in _jobs_folder(runs).glob("*_submitted.pkl")}
    states = queue_states(submitted) if submitted else {}
    if states is None:
        raise InputError("launcher: squeue does not answer, so jobs could be submitted twice; try again later")
    there = [job for job, state in states.items() if not has_ended(state)]
    functions = ((job, DelayedSubmission.load(submitted[job]).function) for job in there)
    return next((job for job, function in functions if getattr(function, "run", None) == entry.run), None)


def _start(executor: Any, runs: PlannedRuns, entry: RunEntry) -> Any:
    before = entry.status, entry.error
    runs.record.update(entry, "running")  # so that it is looked for if this process is killed within the next lines
    try:
        job = _submit(executor, FitJob(runs.command(entry), entry.run, _seconds_to_save(runs.config.slurm)))
    except InputError:
        runs.record.update(entry, *before)
        raise
    entry.job = job.job_id
    runs.record.write()
    return job


def _submit(executor: Any, job: FitJob) -> Any:
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # sbatch's words, which are in the error too
            return executor.submit(job)
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        said = " ".join(str(error).split()).removeprefix("sbatch: error: ").replace(" sbatch: error:", ";")
        raise InputError(f"launcher: the cluster refused a job: {said}; jobs submitted before go on") from error


def _ends(jobs: set[str], console: Console, poll_seconds: float) -> Iterator[tuple[str, str]]:
    """Waits for jobs and yields each, with its state, when it is over.

    Results that are there do not say so: a job that was stopped, and is queued again, has left some too.
    """
    answers = True
    while jobs:
        states = queue_states(sorted(jobs))
        if states is None and answers:
            console.print("squeue does not answer; waiting until it does", highlight=False)
        answers = states is not None
        for job, state in (states or {}).items():
            if has_ended(state):
                jobs.remove(job)
                yield job, state
        if jobs:
            time.sleep(poll_seconds)


def _finish(runs: PlannedRuns, entry: RunEntry, job: Any, state: str) -> None:
    """Judges a run whose job is over."""
    entry.job = None
    codes = _exit_codes(job)
    if isinstance(codes, str):
        runs.record.update(entry, "failed", f"job {job.job_id} ({state}): {codes}")
    elif SAVED in codes:
        runs.record.update(entry, "pending")
    elif any(codes):
        runs.record.update(entry, "failed", failure_line(_output(job), max(codes, key=abs)))
    else:
        runs.settle(entry)


def _exit_codes(job: Any) -> list[int] | str:
    """Of the job's processes; or in one line why there are none: cancelled, out of memory, a lost node."""
    codes, deadline = [], time.monotonic() + RESULT_SECONDS
    for part in (job.task(number) for number in range(job.num_tasks)):
        path = part.paths.result_pickle
        while path not in path.parent.iterdir():  # reading the folder makes a network's file system look again
            if time.monotonic() > deadline:
                return _last_line(part.stderr() or "") or "has left no result; it may never have begun"
            time.sleep(1)
        how, result = pickle.loads(path.read_bytes())
        if how == "error":  # the traceback of what the job does, as submitit keeps it
            return _last_line(result)
        codes.append(result)
    return codes


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _output(job: Any) -> str:
    return f"{job.stdout() or ''}\n{job.stderr() or ''}"

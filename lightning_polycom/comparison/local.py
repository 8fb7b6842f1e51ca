"""The runs of a comparison on this machine, one after the other."""

import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lightning_polycom.callbacks.preemption import EXIT_CODE
from lightning_polycom.comparison.command import failure_line
from lightning_polycom.comparison.plan import arm_called
from lightning_polycom.comparison.processes import Stopped, last_progress, run_process
from lightning_polycom.comparison.record import RunEntry
from lightning_polycom.comparison.settling import PlannedRuns
from lightning_polycom.errors import InputError


def run_here(runs: PlannedRuns, console: Console, lock: int | None = None) -> None:
    """Runs what is not finished. A run that fails is marked, and the next one begins.

    What each prints goes to <arm>/<run>.log in the comparison's folder. `lock` stays open in the processes.

    Raises:
        InputError: a run may still be going on as a job of a cluster.
        Stopped: a run was stopped by a signal; it is pending.
    """
    entries, total = runs.unfinished(), len(runs.record.entries)
    away = next((entry for entry in entries if entry.job is not None), None)
    if away is not None:
        raise InputError(f"launcher: {away.key} is job {away.job} of a cluster; wait for it with --launcher slurm")
    for entry in entries:
        number = runs.record.entries.index(entry) + 1
        console.print(f"{number}/{total} {entry.key}", highlight=False)
        started = time.monotonic()
        _run(runs, entry, console, lock)
        spent = time.monotonic() - started
        console.print(f"    {outcome(entry)} ({spent:,.0f} s)", highlight=False, soft_wrap=True, markup=False)


def outcome(entry: RunEntry) -> str:
    """What a run has come to, in one line."""
    return entry.status if entry.error is None else f"{entry.status}: {entry.error}"


def log_of(runs: PlannedRuns, entry: RunEntry) -> Path:
    """Where what a run prints is kept, beside its folder."""
    folder = runs.record.run_folder(entry)
    return folder.with_name(f"{folder.name}.log")


def _run(runs: PlannedRuns, entry: RunEntry, console: Console, lock: int | None) -> None:
    log = log_of(runs, entry)
    log.unlink(missing_ok=True)  # of a start before
    command = runs.command(entry)
    runs.record.update(entry, "running")
    try:
        with _Bar(console, log, arm_called(runs.arms, entry.name).steps) as bar:
            code = run_process(command, log, lock, bar.show)
    except BaseException:  # Ctrl-C or a signal: saved, and to go on with
        runs.record.update(entry, "pending")
        raise
    if code == EXIT_CODE:
        runs.record.update(entry, "pending")
        raise Stopped(f"the run {entry.key} was stopped")
    if code != 0:
        output = log.read_text(encoding="utf-8", errors="replace")
        runs.record.update(entry, "failed", failure_line(output, code))
        return
    runs.settle(entry)


class _Bar:
    """A bar over the steps of the run in progress, on a terminal; nothing elsewhere."""

    def __init__(self, console: Console, log: Path, steps: int):
        self.log, self.steps = log, steps
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[status]}"))
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        self._task = self._progress.add_task("", total=self.steps, status="")
        return self

    def show(self) -> None:
        """Moves the bar to what the run printed last."""
        found = last_progress(self.log)
        if found is not None:
            self._progress.update(self._task, completed=found[0], status=found[1])

    def __exit__(self, *_) -> None:
        self._progress.stop()

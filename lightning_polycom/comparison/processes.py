"""One process of a run at a time, which is saved and ended when its parent is told to stop."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

GRACE_SECONDS = 600  # for a step and its checkpoint
POLL_SECONDS = 0.2
_STEP = re.compile(r"^step (\d+)/\d+ +(.*)$", re.MULTILINE)


class Stopped(Exception):
    """The comparison was told to stop by a signal; it goes on when it is started again."""


def run_process(
    command: Sequence[str], log: Path, inherited: int | None = None, watch: Callable[[], None] = lambda: None
) -> int:
    """Runs `command` with what it prints added to the file `log`; returns its exit code.

    The process does not get the terminal's signals. On Ctrl-C, or a signal that `stopping` turns into an exception, it
    gets SIGTERM, so that a run saves its step, and the exception goes on when it has ended. A second one kills it.

    Args:
        command: What to run.
        log: Where its output goes.
        inherited: A file number that stays open in it.
        watch: Called several times a second.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=() if inherited is None else (inherited,),
        )
    try:
        while process.poll() is None:
            watch()
            time.sleep(POLL_SECONDS)
    except BaseException:
        end_process(process)
        raise
    return process.returncode


def end_process(process: subprocess.Popen) -> None:
    """Asks a process to save and end, waits, and kills it and its children if it does not or a signal comes again."""
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except BaseException:  # its time is up, or Ctrl-C again
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def stopping() -> Iterator[None]:
    """Turns SIGTERM, SIGUSR1 and SIGHUP into Stopped while it lasts."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Stopped(signal.Signals(number).name)

    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def last_progress(log: Path) -> tuple[int, str] | None:
    """The newest step that a run has printed into its log, and what it said of it."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            found = _STEP.findall(file.read().decode("utf-8", "replace"))
    except FileNotFoundError:
        return None
    return (int(found[-1][0]), found[-1][1].strip()) if found else None

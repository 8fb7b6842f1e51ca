"""What runs inside a job of a cluster. Imports little: every process of a job loads it."""

import os
import signal
import subprocess
import time
from typing import Any

SAVED = os.EX_TEMPFAIL  # how `polycom fit` ends when it was told to stop and has saved
FRUITLESS_STARTS = 3
_POLL_SECONDS = 0.2


class FitJob:
    """The command of a run, in each of the job's processes. Called, it returns the command's exit code.

    Args:
        command: What to run.
        run: Which run it is, as the comparison's record names its folder.
        grace: Seconds that the command may take to save a step, once the job's time is up.
        fruitless: Starts in a row, up to now, whose time was up before a step was saved.
    """

    def __init__(self, command: list[str], run: str, grace: float, fruitless: int = 0):
        self.command, self.run, self.grace, self.fruitless = command, run, grace, fruitless
        self._process: subprocess.Popen | None = None

    def __call__(self) -> int:
        """Runs until the end, or until `checkpoint` or a SIGTERM stops it."""
        # SLURM's notice goes to every process of the job; by default it would kill the command before it has saved.
        self._process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, preexec_fn=_ignore_notice)
        return self._process.wait()

    def checkpoint(self) -> Any:
        """Saves when the job's time is up or its node is taken; submitit then queues it again, and it goes on.

        Raises:
            RuntimeError: this was the third start in a row that saved nothing; it is not queued again.
        """
        from submitit.helpers import DelayedSubmission

        fruitless = 0 if self._stop() == SAVED else self.fruitless + 1
        if fruitless >= FRUITLESS_STARTS:
            raise RuntimeError(f"no step was saved before the time was up, {fruitless} times in a row; raise minutes")
        return DelayedSubmission(FitJob(self.command, self.run, self.grace, fruitless))

    def _stop(self) -> int | None:
        """Asks the command to save and end, and waits; its exit code, or None if it had to be killed."""
        if self._process is None:
            return None
        pid, deadline = self._process.pid, time.monotonic() + self.grace
        try:
            os.kill(pid, signal.SIGTERM)
            # This is a signal handler, in the midst of Popen.wait, whose lock is held: it must be left to reap.
            while (ended := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)) is None:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                    return None
                time.sleep(_POLL_SECONDS)
        except (ProcessLookupError, ChildProcessError):  # it had ended by itself
            return self._process.returncode
        return ended.si_status if ended.si_code == os.CLD_EXITED else None


def _ignore_notice() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)

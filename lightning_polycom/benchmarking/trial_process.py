"""One candidate in a process of its own: its peak memory is then the candidate's, and a lack of it ends no other."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KILLED = "the system has killed it, most likely for want of memory"


class Failed(Exception):
    """A process that gave no numbers; the message is one line that says why."""


def bench_in_process(part: str, of_fit: list[str], repetitions: int | None, folder: Path) -> dict[str, Any]:
    """What `polycom bench --parts PART` finds of a run with these options of `polycom fit`.

    Args:
        part: The one part to measure.
        of_fit: The run.
        repetitions: As the option; None for the device's default.
        folder: For its files.

    Raises:
        Failed: it ended without.
    """
    output, printed = folder / "bench.json", folder / "printed"
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", "lightning_polycom", "bench", *of_fit, "--parts", part, "--output", str(output)]
    if repetitions is not None:
        command += ["--repetitions", str(repetitions)]
    with printed.open("w") as file:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT).returncode
    if code != 0:
        raise Failed(failure(code, printed.read_text(encoding="utf-8", errors="replace")))
    return json.loads(output.read_text(encoding="utf-8"))


def failure(code: int, printed: str) -> str:
    """Why a process failed: the command's own error, or its last line; a signal by name."""
    if code == -signal.SIGKILL:
        return KILLED
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    lines = [line.strip() for line in printed.splitlines() if line.strip()] or ["nothing was printed"]
    mistakes = [line.removeprefix("polycom: error: ") for line in lines if line.startswith("polycom: error: ")]
    return mistakes[-1] if mistakes else f"exit code {code}: {lines[-1]}"


@contextmanager
def ending_with_parent() -> Iterator[None]:
    """Turns SIGTERM into the end of Python inside the block, so that a process that runs is ended too."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

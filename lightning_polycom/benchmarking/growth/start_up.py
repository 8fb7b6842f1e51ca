"""How long commands take until they have done their work, each in a process of its own. Imports nothing heavy."""

import subprocess
import sys
import time
from pathlib import Path

import yaml

from lightning_polycom.errors import InputError

# A line that the callback prints and nothing else does.
MARK = "the first optimizer step is made"
CALLBACK = "lightning_polycom.benchmarking.growth.first_step.FirstStep"
LIMITS = {"polycom --help": 1.0, "fit --dry_run of dense_1b": 10.0, "fit to the first step of quickstart": 10.0}


def commands(root: Path, folder: Path) -> dict[str, tuple[list[str], str | None]]:
    """Options of each command, and the line that ends its time (None: its own end).

    `root` is the repository; the quickstart's text is prepared into, and its runs are written below, `folder`.
    """
    overlay = folder / "first_step.yaml"
    overlay.write_text(yaml.safe_dump({"trainer": {"callbacks": [{"class_path": CALLBACK}]}}), encoding="utf-8")
    quickstart = ["--config", str(root / "configs" / "quickstart.yaml"), "--config", str(overlay)]
    places = ["--data.folder", str(folder / "data"), "--run.root", str(folder / "runs")]
    found = [
        (["--help"], None),
        (["fit", "--config", str(root / "configs" / "dense_1b.yaml"), "--dry_run"], None),
        (["fit", *quickstart, *places], MARK),
    ]
    return dict(zip(LIMITS, found, strict=True))


def seconds_of(options: list[str], mark: str | None, root: Path) -> float:
    """Wall time from the start of `polycom OPTIONS` to the line `mark`, when it is killed, or to its own end.

    Raises:
        InputError: it failed, or ended without the line.
    """
    start, printed, last = time.perf_counter(), None, ""
    command = [sys.executable, "-m", "lightning_polycom", *options]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=root, text=True, errors="replace", **pipes) as process:
        for line in process.stdout:
            last = line.strip() or last
            if mark is not None and mark in line:
                printed = time.perf_counter()
                process.kill()
                break
    end = time.perf_counter()
    if mark is None and process.returncode == 0:
        return end - start
    if printed is None:
        raise InputError(f"polycom {' '.join(options)}: ended with exit code {process.returncode}: {last}")
    return printed - start


def start_up_lines(seconds: dict[str, float]) -> list[str]:
    """A table of the commands, with the project's limits."""
    lines = ["start_up"]
    for name, found in seconds.items():
        verdict = "met" if found < LIMITS[name] else "NOT met"
        lines.append(f"  {name:<38}{found:>8.2f} s   {verdict}: under {LIMITS[name]:.0f} s")
    return lines

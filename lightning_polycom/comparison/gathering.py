"""From what a user names to runs by arm: folders of comparisons and runs, and files of other code."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lightning_polycom.comparison.comparison_file import is_comparison, read_comparison
from lightning_polycom.comparison.foreign import SUFFIXES, read_foreign
from lightning_polycom.comparison.runs import Run, is_run_folder, read_run
from lightning_polycom.errors import InputError


class Gathered(NamedTuple):
    """Runs, and what a comparison's folder says of them (None where only runs were named)."""

    runs: list[Run]
    name: str | None
    baseline: str | None
    equal: str | None


def gather(paths: Sequence[str]) -> Gathered:
    """The runs that `paths` mean.

    A path is a comparison's folder (with comparison.json), a run's folder, a folder of runs (runs/NAME: each of its
    versions), or a .csv or .jsonl file of other code; ARM=PATH gives its runs the name of an arm.

    Raises:
        InputError: a path is none of these, or what it holds is damaged.
    """
    runs, comparison, unnamed = [], None, []
    for text in paths:
        arm, path = _split(text)
        if is_comparison(path):
            read = read_comparison(path)
            comparison, found = comparison or read, read.runs
        else:
            found = _read(path)
        if arm is not None:
            found = [replace(run, arm=arm) for run in found]
        elif path.suffix not in SUFFIXES and not is_comparison(path):
            unnamed += found
        runs += found
    runs = _named_by_activation(runs, unnamed)
    if comparison is None:
        return Gathered(runs, None, None, None)
    return Gathered(runs, comparison.name, comparison.baseline, comparison.equal)


def _split(text: str) -> tuple[str | None, Path]:
    arm, separator, path = text.partition("=")
    if separator and arm and "/" not in arm and not Path(text).exists():
        return arm, Path(path)
    return None, Path(text)


def _read(path: Path) -> list[Run]:
    if path.is_file() and path.suffix in SUFFIXES:
        return read_foreign(path)
    if is_run_folder(path):
        return [read_run(path)]
    versions = sorted(folder.parent for folder in path.glob("*/run.json"))
    if not versions:
        found = "does not exist" if not path.exists() else "holds no run"
        raise InputError(f"runs: {path} {found}; give runs/NAME, a comparison's folder or a .csv or .jsonl file")
    return [read_run(folder) for folder in versions]


def _named_by_activation(runs: list[Run], unnamed: list[Run]) -> list[Run]:
    """Runs of one name that differ in their activation are arms by its name."""
    names, activations = Counter(run.arm for run in unnamed), {run.activation for run in unnamed}
    if len(names) != 1 or len(activations) < 2:
        return runs
    return [replace(run, arm=run.activation) if run in unnamed else run for run in runs]

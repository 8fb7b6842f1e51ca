"""comparison.json: which run of a comparison's folder is which arm, seed and learning rate."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from lightning_polycom.comparison.runs import FINISHED, PENDING, Run, is_run_folder, read_run
from lightning_polycom.errors import InputError
from lightning_polycom.json_object import read_json_object

FILE = "comparison.json"
KINDS = {"name": str, "seed": int, "run": str, "status": str}


class ComparisonFile(NamedTuple):
    """What a comparison's folder says of itself, and its runs."""

    name: str
    baseline: str
    equal: str
    runs: list[Run]


def is_comparison(folder: Path) -> bool:
    """Whether a folder is that of a comparison."""
    return (folder / FILE).is_file()


def read_comparison(folder: Path) -> ComparisonFile:
    """The runs of a comparison's folder under the names of its arms, also those that are not finished or not begun.

    Raises:
        InputError: comparison.json or one of its runs is damaged.
    """
    path = folder / FILE
    advice = "it is what polycom compare writes; run that command again"
    values = read_json_object(path, "comparison: ", advice)
    for key in ("name", "baseline", "equal"):
        if not isinstance(values.get(key), str):
            raise InputError(f"comparison: {path} has {key}: {values.get(key)!r}; {advice}")
    entries = values.get("arms")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"comparison: {path} has no list of arms; {advice}")
    runs = [_run(folder, path, entry, advice) for entry in entries]
    return ComparisonFile(values["name"], values["baseline"], values["equal"], runs)


def _run(folder: Path, path: Path, entry: dict[str, Any], advice: str) -> Run:
    rate = entry.get("learning_rate")
    for key, kind in KINDS.items():
        if not isinstance(entry.get(key), kind) or isinstance(entry[key], bool):
            raise InputError(f"comparison: {path} has an arm with {key}: {entry.get(key)!r}; {advice}")
    arm, place = entry["name"], folder / entry["run"]
    shown = f"{folder.resolve().name}/{entry['run']}"
    if not is_run_folder(place):
        if entry["status"] == FINISHED:
            raise InputError(f"comparison: {path} names the run {place} as finished, which is not there; {advice}")
        return Run(arm, entry["seed"], rate, shown, entry["status"], marks=_error(entry))
    run = replace(read_run(place), path=shown)
    if run.seed != entry["seed"]:
        raise InputError(f"comparison: {path} has seed {entry['seed']} for {place}, whose config.yaml has {run.seed}")
    run = replace(run, arm=arm, learning_rate=run.learning_rate if rate is None else rate, marks=_error(entry))
    if run.status != FINISHED:
        return run
    # Ended, but stopped before it was held against the others; `polycom compare` does that when it goes on.
    return replace(run, status="not checked" if entry["status"] == PENDING else entry["status"])


def _error(entry: dict[str, Any]) -> tuple[str, ...]:
    """Why the run has failed, if it has."""
    return (str(entry["error"]),) if entry.get("error") else ()

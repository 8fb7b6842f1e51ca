"""Runs of other code, from a CSV or JSONL file (docs/comparison.md has the form)."""

import csv
import math
from pathlib import Path
from typing import Any

from lightning_polycom.comparison.runs import FINISHED, Facts, Run
from lightning_polycom.comparison.series import collect, parse_row
from lightning_polycom.errors import InputError

TEXTS = ("arm", "status", "data", "device")
NUMBERS = ("seed", "step", "learning_rate", "num_parameters", "num_active_parameters", "flops_per_token")
SHORT = {"tokens": "progress/tokens", "seconds": "progress/seconds", "flops": "progress/flops"}
SUFFIXES = (".csv", ".jsonl")


def read_foreign(path: Path) -> list[Run]:
    """The runs of a file: one for every arm, seed and learning rate in it.

    Raises:
        InputError: a missing column, a value of the wrong kind, or no loss; the message names file and line.
    """
    rows = _csv_rows(path) if path.suffix == ".csv" else _jsonl_rows(path)
    if not rows:
        raise InputError(f"{path}: holds no rows; docs/comparison.md has the form")
    runs: dict[tuple, list[dict[str, Any]]] = {}
    for place, row in rows:
        _check(place, row)
        runs.setdefault((row["arm"], row["seed"], row.get("learning_rate")), []).append(row)
    return [_run(path, key, rows) for key, rows in runs.items()]


def _csv_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    rows = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                place = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise InputError(f"{place}: has not as many cells as the header; leave cells empty instead")
                rows.append((place, {key: _number(place, key, text) for key, text in row.items() if text.strip()}))
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path}: is no CSV in UTF-8 ({error}); docs/comparison.md has the form") from error
    return rows


def _number(place: str, key: str, text: str) -> Any:
    if key in TEXTS:
        return text.strip()
    try:
        return int(text) if key in ("seed", "step") else float(text)
    except ValueError as error:
        raise InputError(f"{place}: {key} is {text!r}; it must be a number") from error


def _jsonl_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text in UTF-8; docs/comparison.md has the form") from error
    places = {f"{path}, line {number}": line for number, line in enumerate(lines, 1) if line.strip()}
    return [(place, parse_row(line, place)) for place, line in places.items()]


def _check(place: str, row: dict[str, Any]) -> None:
    """The columns that every row has, of the right kind."""
    for key in ("arm", "seed", "step", "tokens"):
        if row.get(key) is None:
            raise InputError(f"{place}: has no {key}; each row has arm, seed, step and tokens")
    for key, value in row.items():
        kind = str if key in TEXTS else int if key in ("seed", "step") else int | float | None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f"{place}: {key} is {value!r}; it must be {'text' if kind is str else 'a number'}")
    if not math.isfinite(row["tokens"]) or row["tokens"] < 0 or row["step"] < 0:
        raise InputError(f"{place}: step {row['step']} and tokens {row['tokens']} must be 0 or more")


def _run(path: Path, key: tuple, rows: list[dict[str, Any]]) -> Run:
    arm, seed, learning_rate = key
    stated = {name: value for row in rows for name, value in row.items() if name in (*TEXTS, *NUMBERS)}
    facts_only = set(stated) - {"step"}
    metrics = [{SHORT.get(tag, tag): value for tag, value in row.items() if tag not in facts_only} for row in rows]
    _add_mean_losses(metrics)
    series = collect(metrics)
    if not {"val/loss", "train/loss"} & set(series):
        raise InputError(f"{path}: {arm}, seed {seed} has no loss; give val/loss, val/<domain>/loss or train/loss")
    facts = Facts(
        data=stated.get("data"),
        device=stated.get("device", "not stated"),
        **{name: stated.get(name) for name in NUMBERS[3:]},
    )
    return Run(arm, seed, learning_rate, f"{path} ({arm}, seed {seed})", stated.get("status", FINISHED), facts, series)


def _add_mean_losses(rows: list[dict[str, Any]]) -> None:
    """val/loss is the plain mean over domains, as in a run of this project."""
    for row in rows:
        losses = [v for tag, v in row.items() if tag.startswith("val/") and tag.endswith("/loss") and tag != "val/loss"]
        if losses and "val/loss" not in row:
            row["val/loss"] = None if None in losses else sum(losses) / len(losses)

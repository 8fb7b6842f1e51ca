"""Logged values over optimizer steps, from lines of JSON."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lightning_polycom.errors import InputError


class Series(NamedTuple):
    """One tag: optimizer steps completed (int64, ascending) and values (float64; nan where not finite)."""

    steps: np.ndarray
    values: np.ndarray


def read_series(path: Path) -> tuple[dict[str, Series], float | None]:
    """All tags of a metrics.jsonl, and the time of its first line (seconds since the epoch).

    A last line that a kill has torn is left out. A file that is not there has no tags: nothing was logged yet.

    Raises:
        InputError: another line is no JSON object with a step.
    """
    if not path.is_file():
        return {}, None
    text = path.read_text(encoding="utf-8")
    lines = text[: text.rfind("\n") + 1].splitlines()
    rows = [parse_row(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    start = rows[0].get("time") if rows else None
    return collect(rows), start if isinstance(start, int | float) else None


def parse_row(line: str, place: str) -> dict[str, Any]:
    """The object in a line of JSON.

    Raises:
        InputError: it is none, or has no whole number as step; `place` says where.
    """
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{place}: is no JSON ({str(error).splitlines()[0]}); each line is one object") from error
    if not isinstance(row, dict):
        raise InputError(f"{place}: holds no JSON object; each line is one object")
    if not isinstance(row.get("step"), int) or isinstance(row["step"], bool) or row["step"] < 0:
        raise InputError(f"{place}: step is {row.get('step')!r}; it is the number of optimizer steps completed")
    return row


def collect(rows: Iterable[dict[str, Any]]) -> dict[str, Series]:
    """Series by tag from rows with a `step`; of two values of a step the later row counts; null becomes nan."""
    values: dict[str, dict[int, float]] = {}
    for row in rows:
        for tag, value in row.items():
            if tag in ("step", "time") or not isinstance(value, int | float | None):
                continue
            values.setdefault(tag, {})[row["step"]] = float("nan") if value is None else float(value)
    return {tag: _sorted(by_step) for tag, by_step in values.items()}


def _sorted(by_step: dict[int, float]) -> Series:
    steps = np.array(sorted(by_step), dtype=np.int64)
    return Series(steps, np.array([by_step[step] for step in steps.tolist()]))

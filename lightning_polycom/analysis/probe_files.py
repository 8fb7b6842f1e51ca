"""What an analysis found as JSON, CSV, scalars and pictures."""

import csv
import math
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Any

from lightning_polycom.atomic import write_json, write_text
from lightning_polycom.json_object import read_json_object

SCALARS = ("zero_fraction", "kurtosis", "max_abs")  # of what is seen at an activation
TEXT_KEYS = ("num_tokens", "layer_similarity", "activation_statistics")  # that an analysis without data lacks


def json_name(step: int) -> str:
    """The file's name in a run's folder probes."""
    return f"analysis-step-{step:08d}.json"


def write_analysis(path: Path, step: int, found: dict[str, Any]) -> None:
    """Writes the JSON file, atomically; a number that is not finite is null.

    What an earlier analysis of the same step read from text is kept if this one read none.

    Raises:
        InputError: that earlier file is damaged.
    """
    kept = {}
    if path.is_file() and "layer_similarity" not in found:
        earlier = read_json_object(path, "probes: ", "delete it")
        kept = {key: earlier[key] for key in TEXT_KEYS if key in earlier}
    write_json(path, _finite({"step": step, **found, **kept}))


def write_tables(folder: Path, name: str, found: dict[str, Any]) -> list[Path]:
    """Writes <name>-layers.csv, and -experts.csv and -similarity.csv where there are such numbers; gives the paths."""
    tables = {"layers": _layer_rows(found)}
    if "effective_rank_per_expert" in found:
        tables["experts"] = _expert_rows(found["effective_rank_per_expert"])
    if "layer_similarity" in found:
        numbers = range(len(found["layer_similarity"]))
        rows = ({"after_layer": i, **dict(zip(numbers, found["layer_similarity"][i], strict=True))} for i in numbers)
        tables["similarity"] = rows
    paths = []
    for kind, rows in tables.items():
        paths.append(folder / f"{name}-{kind}.csv")
        write_text(paths[-1], _csv(list(rows)))
    return paths


def analysis_scalars(found: dict[str, Any]) -> dict[str, float]:
    """`analysis/<layer>/effective_rank_up`, `analysis/<layer>/input_kurtosis` and the like, by tag.

    `similarity_to_previous` is that of a block's hidden states to those it was given.
    """
    return {
        f"analysis/{row['layer']}/{key}": value
        for row in _layer_rows(found, SCALARS)
        for key, value in row.items()
        if key != "layer" and key not in found["coefficients"][0]  # which have tags of their own
    }


def _layer_rows(found: dict[str, Any], keys: Iterable[str] | None = None) -> list[dict[str, float]]:
    """One flat row a layer; of what is seen at an activation only `keys`, or everything."""
    rows = []
    for layer, coefficients in enumerate(found["coefficients"]):
        row: dict[str, Any] = {"layer": layer, **coefficients}
        for kind in ("effective_rank", "effective_rank_spread"):
            row |= {f"{kind}_{name}": values[layer] for name, values in found.get(kind, {}).items()}
        if "layer_similarity" in found:
            row["similarity_to_previous"] = found["layer_similarity"][layer + 1][layer]
            row |= _activation_columns(found["activation_statistics"][layer], keys)
        rows.append(row)
    return rows


def _activation_columns(entry: dict[str, Any], keys: Iterable[str] | None) -> dict[str, float]:
    columns = {}
    for place, statistics in entry.items():
        if place == "layer":
            continue
        plain = keys or [key for key, value in statistics.items() if not isinstance(value, dict)]
        columns |= {f"{place}_{key}": statistics[key] for key in plain}
        for name, bits in statistics["overflow_headroom_bits"].items():
            columns[f"{place}_overflow_headroom_{name}"] = bits
        if keys is None:
            columns |= {f"{place}_quantile_{p}": value for p, value in statistics["quantiles"].items()}
    return columns


def _expert_rows(ranks: dict[str, list[list[float]]]) -> list[dict[str, float]]:
    first = next(iter(ranks.values()))
    return [
        {"layer": layer, "expert": expert} | {f"effective_rank_{n}": ranks[n][layer][expert] for n in ranks}
        for layer, experts in enumerate(first)
        for expert in range(len(experts))
    ]


def _csv(rows: list[dict[str, Any]]) -> str:
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _finite(value: Any) -> Any:
    """The same with null in place of every number that JSON has no word for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""Flat numbers out of lm-eval's results, and the results as a file."""

import math
from pathlib import Path
from typing import Any

from lightning_polycom.atomic import write_json
from lightning_polycom.evaluation.average import average
from lightning_polycom.evaluation.harness import OUR_KEY
from lightning_polycom.evaluation.samples import write_samples

OVERFLOWING = ("word_perplexity", "byte_perplexity")


def scalars(results: dict[str, Any]) -> dict[str, float]:
    """Tags `eval/<task or group>/<metric>` from the results of `run_evaluation`.

    A metric has lm-eval's name without ",none"; its standard error is `<metric>_stderr`; multiple-choice tasks have
    `chance`. `eval/average` is that of `average.average`, and absent where a group in it has lost a task; without
    chosen metrics a group counts through each of its tasks. Values that are no numbers are left out, so are
    perplexities that overflowed.
    """
    values: dict[str, float] = {}
    for task, metrics in results["results"].items():
        for key, value in metrics.items():
            if "," not in key or not _is_number(value) or _overflowed(key, value):
                continue
            values[f"eval/{task}/{key.removesuffix(',none')}"] = float(value)
    for task, level in results[OUR_KEY]["chance"].items():
        values[f"eval/{task}/chance"] = level
    ours = results[OUR_KEY]
    metrics = ours.get("metrics", {})
    mean = average(values, metrics, list(ours["chance"]))
    if mean is not None and not set(metrics) & set(ours.get("incomplete", [])):
        values["eval/average"] = mean
    return values


def write_results(path: str | Path, results: dict[str, Any]) -> None:
    """Writes results as JSON, atomically; infinite and undefined numbers, which JSON lacks, become null.

    Samples among them go to files of their own, as `write_samples` has it.
    """
    write_samples(Path(path), results.get("samples", {}))
    write_json(path, _without_non_finite({key: value for key, value in results.items() if key != "samples"}))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _overflowed(key: str, value: float) -> bool:
    return key.split(",")[0] in OVERFLOWING and not math.isfinite(value)


def _without_non_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_non_finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_non_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

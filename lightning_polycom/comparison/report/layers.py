"""Numbers of every layer: learned coefficients, effective ranks, statistics of activations."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from lightning_polycom.comparison.results import Result
from lightning_polycom.comparison.runs import Run


class Layers(NamedTuple):
    """One quantity of one arm: mean and standard deviation over seeds per layer (nan where there is none)."""

    arm: int  # its index among the results
    quantity: str
    mean: np.ndarray
    spread: np.ndarray | None
    count: int  # seeds


def per_layer(results: list[Result], values: Callable[[Run], Mapping[str, np.ndarray]]) -> list[Layers]:
    """The quantities that `values` gives of a run, over the seeds of every arm whose layers are as many."""
    found = []
    for index, result in enumerate(results):
        by_quantity: dict[str, list[np.ndarray]] = {}
        for run in result.runs:
            for quantity, layers in values(run).items():
                by_quantity.setdefault(quantity, []).append(layers)
        for quantity, rows in by_quantity.items():
            rows = [row for row in rows if len(row) == len(rows[0])]
            spread = np.std(rows, axis=0, ddof=1) if len(rows) > 1 else None
            found.append(Layers(index, quantity, np.mean(rows, axis=0), spread, len(rows)))
    return found


def coefficient_names(run: Run) -> list[str]:
    """What of the activation was followed: coefficient_1, bias and the like."""
    tags = (tag.split("/", 2) for tag in run.series if tag.startswith("activation/"))
    return sorted({parts[2] for parts in tags if len(parts) == 3 and parts[1].isdigit()})


def coefficient_layers(run: Run, name: str) -> list[str]:
    """Tags of one coefficient, by layer."""
    tags = [tag for tag in run.series if tag.startswith("activation/") and tag.split("/", 2)[2:] == [name]]
    return sorted((tag for tag in tags if tag.split("/")[1].isdigit()), key=lambda tag: int(tag.split("/")[1]))


def last_coefficients(run: Run) -> dict[str, np.ndarray]:
    """The last value of every coefficient in every layer."""
    return {
        name: np.array([run.series[tag].values[-1] for tag in coefficient_layers(run, name)])
        for name in coefficient_names(run)
    }


def effective_ranks(run: Run) -> dict[str, np.ndarray]:
    """Effective rank of every matrix in every layer; empty without an analysis."""
    return {} if run.analysis is None else run.analysis.effective_rank


def statistics(run: Run) -> dict[str, np.ndarray]:
    """Statistics at the activation in every layer; empty without an analysis."""
    return {} if run.analysis is None else run.analysis.statistics

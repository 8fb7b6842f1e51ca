"""Tables with a column for every layer."""

from lightning_polycom.comparison.report.layers import (
    Layers,
    effective_ranks,
    last_coefficients,
    per_layer,
    statistics,
)
from lightning_polycom.comparison.report.table import Cell, Measured, Table
from lightning_polycom.comparison.results import Result


def layer_tables(results: list[Result]) -> list[Table]:
    """Final coefficients, effective ranks and activation statistics, those that there are."""
    kinds = (
        ("coefficients", "Coefficients at the end", "coefficient", last_coefficients),
        ("effective_rank", "Effective rank of the feed-forward's matrices", "matrix", effective_ranks),
        ("activation_statistics", "Statistics at the activation", "statistic", statistics),
    )
    tables = [_table(name, title, what, results, per_layer(results, of)) for name, title, what, of in kinds]
    return [table for table in tables if table.rows]


def _table(name: str, title: str, what: str, results: list[Result], entries: list[Layers]) -> Table:
    width = max((len(entry.mean) for entry in entries), default=0)
    rows = [[results[entry.arm].name, entry.quantity, *_cells(entry, width)] for entry in entries]
    note = "One column per layer, from the input on; ± is the standard deviation over seeds."
    return Table(name, title, ["arm", what, *(f"layer {layer}" for layer in range(width))], rows, (note,))


def _cells(entry: Layers, width: int) -> list[Cell]:
    spreads = [None] * len(entry.mean) if entry.spread is None else entry.spread.tolist()
    cells: list[Cell] = [
        None if mean != mean else Measured(mean, None if spread != spread else spread)  # nan
        for mean, spread in zip(entry.mean.tolist(), spreads, strict=True)
    ]
    return cells + [None] * (width - len(cells))

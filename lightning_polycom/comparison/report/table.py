"""A table that is the same in HTML, Markdown, LaTeX (latex.py) and CSV."""

import csv
import io
import re
from dataclasses import dataclass, replace
from typing import NamedTuple

MINUS = "\N{MINUS SIGN}"


def si(value: float) -> str:
    """Three digits, zeros included, and a letter: 1.35 G, 2.00 k."""
    for power, letter in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power * 0.9995:
            return f"{_three(value / 10**power)} {letter}" if abs(value) < 10 ** (power + 3) else f"{value:.2e}"
    return _three(value) if value else "0"


def _three(value: float) -> str:
    return f"{value:#.3g}".rstrip(".")


STYLES = {
    "plain": lambda value, decimals: f"{value:,.{decimals}f}",
    "signed": lambda value, decimals: f"{value:+,.{decimals}f}",
    "percent": lambda value, decimals: f"{value:+,.{decimals}f}",
    "si": lambda value, decimals: si(value),
    "p": lambda value, decimals: f"{value:.3f}" if value >= 0.001 else "< 0.001",
}


class Measured(NamedTuple):
    """A number, what follows ± (None: nothing), and how it is shown: decimals, and one of STYLES."""

    value: float
    spread: float | None = None
    decimals: int = 3
    style: str = "plain"

    def __str__(self) -> str:
        shown = STYLES[self.style](self.value, self.decimals).replace("-", MINUS)
        spread = "" if self.spread is None or self.style == "si" else f" ± {self.spread:,.{self.decimals}f}"
        return f"{shown}{spread}{' %' if self.style == 'percent' else ''}"


Cell = str | Measured | None


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first column names the row.

    Args:
        name: Of its files, without suffix.
        title: Above it.
        header: One text per column.
        rows: One cell per column; None is shown as empty.
        notes: Below it.
    """

    name: str
    title: str
    header: list[str]
    rows: list[list[Cell]]
    notes: tuple[str, ...] = ()

    @property
    def is_long(self) -> bool:
        """Whether a reader had better ask for it."""
        return len(self.rows) > 24 or len(self.header) > 14

    def is_number(self, column: int) -> bool:
        """Whether a column has numbers, and is set to the right."""
        return any(isinstance(row[column], Measured) for row in self.rows)

    def without_empty_columns(self) -> "Table":
        """The table as a reader sees it: a column with nothing in it is left out (CSV keeps it)."""
        kept = [c for c in range(len(self.header)) if not self.rows or c == 0 or any(text(row[c]) for row in self.rows)]
        rows = [[row[column] for column in kept] for row in self.rows]
        return replace(self, header=[self.header[column] for column in kept], rows=rows)


def text(cell: Cell) -> str:
    """What a reader sees."""
    return "" if cell is None else str(cell)


def to_markdown(table: Table) -> str:
    """GitHub's Markdown."""
    table = table.without_empty_columns()
    rules = ["---:" if table.is_number(column) else "---" for column in range(len(table.header))]
    rows = [table.header, rules, *([text(cell) for cell in row] for row in table.rows)]
    lines = ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in rows]
    return "\n".join([f"### {escape(table.title)}", "", *lines, "", *(escape(n) + "\n" for n in table.notes)])


def escape(cell: str) -> str:
    """A text of which Markdown takes no character for markup."""
    return re.sub(r"([\\|*_`<\[\]])", r"\\\1", cell.replace("\n", " "))


def to_csv(table: Table) -> str:
    """Numbers with twelve digits; what follows ± has a column of its own."""
    out, columns = io.StringIO(), range(len(table.header))
    has_spread = [any(isinstance(r[c], Measured) and r[c].spread is not None for r in table.rows) for c in columns]
    writer = csv.writer(out, lineterminator="\n")
    header = [[name, f"{name} (±)"] if has_spread[c] else [name] for c, name in enumerate(table.header)]
    writer.writerow([name for names in header for name in names])
    for row in table.rows:
        cells = [_csv_cells(cell)[: 1 + has_spread[c]] for c, cell in enumerate(row)]
        writer.writerow([cell for part in cells for cell in part])
    return out.getvalue()


def _csv_cells(cell: Cell) -> list[str]:
    if isinstance(cell, Measured):
        return [f"{cell.value:.12g}", "" if cell.spread is None else f"{cell.spread:.12g}"]
    return [text(cell), ""]

"""A table in LaTeX that pdflatex sets without errors, in one column and in two, within the width of the page."""

from typing import NamedTuple

from lightning_polycom.comparison.report.table import Table, text
from lightning_polycom.comparison.report.tex_text import escape, unknown_characters

# In letters of \footnotesize. A line of `article` holds 92, so that the longest is made smaller by a quarter.
LINE, COLUMN = 125, 61
GAP = 1.5  # between columns
PARAGRAPH, BROKEN = 34, 26  # a column with texts longer than the one breaks them into lines of about the other
LINES = 46  # of a float: what a page holds beside its caption
HEAD = 4  # lines of a tabular beside its rows


class _Shown(NamedTuple):
    """A table's texts, and of every column the longest text and whether it is of numbers."""

    header: list[str]
    rows: list[list[str]]
    longest: list[int]
    numbers: list[bool]

    def breaks(self, column: int) -> bool:
        """Whether the texts of a column are broken into lines."""
        return not self.numbers[column] and self.longest[column] > PARAGRAPH

    def width(self, columns: list[int]) -> float:
        """Letters of a line of these columns."""
        return sum(min(self.longest[column], PARAGRAPH) + GAP for column in columns)

    def begins_group(self, row: int) -> bool:
        """Whether a row has another name than the one above it, where neighbours share names."""
        if row == 0 or self.rows[row][0] == self.rows[row - 1][0]:
            return False
        return any(one[0] == other[0] for one, other in zip(self.rows, self.rows[1:], strict=False))


def _shown(table: Table) -> _Shown:
    rows, columns = [[text(cell) for cell in row] for row in table.rows], range(len(table.header))
    longest = [max(len(row[column]) for row in [table.header, *rows]) for column in columns]
    return _Shown(table.header, rows, longest, [table.is_number(column) for column in columns])


def to_latex(table: Table) -> str:
    """Floats with a `tabular` each (booktabs): long tables go on in further ones, wide ones in tabulars below.

    A float of the width of one column is a `table`; wider ones are `table*`, which spans both columns and is the same
    as `table` where there is one. What is still too wide for the line is made smaller.
    """
    table = table.without_empty_columns()
    shown = _shown(table)
    bands = _bands(shown)
    floats = _floats(shown, len(bands))
    needs = ["% needs \\usepackage{array,booktabs,graphicx}"]
    unknown = unknown_characters("".join([*shown.header, *(cell for row in shown.rows for cell in row)]))
    if unknown:
        needs.append("% pdflatex has no letters for: " + ", ".join(f"U+{ord(letter):04X}" for letter in unknown))
    kind = "table*" if max(map(shown.width, bands)) > COLUMN else "table"
    parts = []
    for number, rows in enumerate(floats, 1):
        label = f"tab:{table.name}" + (f"-{number}" if number > 1 else "")
        head = [rf"\begin{{{kind}}}", r"\centering\footnotesize\setlength{\tabcolsep}{3pt}"]
        head += [rf"\caption{{{_caption(table, number, len(floats))}}}", rf"\label{{{label}}}\par\medskip"]
        tabulars = "\n\\par\\medskip\n".join(_tabular(shown, rows, band) for band in bands)
        parts += [*head, tabulars, rf"\end{{{kind}}}"]
    return "\n".join([*needs, *parts]) + "\n"


def _caption(table: Table, number: int, count: int) -> str:
    title = f"{table.title} ({number} of {count})" if count > 1 else table.title
    return escape(" ".join([f"{title}.", *(table.notes if number == 1 else ())]))


def _floats(shown: _Shown, bands: int) -> list[range]:
    """Which rows stand in which float, all bands of columns below each other."""
    room, used, first, floats = LINES - HEAD * bands, 0.0, 0, []
    for row in range(len(shown.rows)):
        height = bands * _height(shown, row)
        if row > first and used + height > room:
            floats.append(range(first, row))
            first, used = row, 0.0
        used += height
    return [*floats, range(first, len(shown.rows))]


def _height(shown: _Shown, row: int) -> float:
    """Lines of a row, with the space above a group."""
    longest = max((len(cell) for column, cell in enumerate(shown.rows[row]) if shown.breaks(column)), default=0)
    return max(1, -(-longest // BROKEN)) + 0.5 * shown.begins_group(row)


def _bands(shown: _Shown) -> list[list[int]]:
    """Columns that stand beside each other: in each band the first ones, which name the row, and others that fit."""
    columns, count = range(1, len(shown.header)), len(shown.rows)
    names = next((number for number in columns if len({tuple(row[:number]) for row in shown.rows}) == count), 1)
    bands = _bands_within(shown, names, LINE)
    even = (_bands_within(shown, names, limit) for limit in range(LINE // 2, LINE))  # no band of a single column left
    return next((narrower for narrower in even if len(narrower) == len(bands)), bands)


def _bands_within(shown: _Shown, names: int, limit: float) -> list[list[int]]:
    bands, band = [], list(range(names))
    for column in range(names, len(shown.header)):
        if len(band) > names and shown.width([*band, column]) > limit:
            bands.append(band)
            band = list(range(names))
        band.append(column)
    return [*bands, band]


def _tabular(shown: _Shown, rows: range, columns: list[int]) -> str:
    header = " & ".join(escape(shown.header[column]) for column in columns)
    lines = []
    for row in rows:
        if row != rows[0] and shown.begins_group(row):
            lines.append(r"\addlinespace")
        lines.append(" & ".join(escape(shown.rows[row][column], shown.breaks(column)) for column in columns) + r" \\")
    kinds = "".join(_kind(shown, column) for column in columns)
    body = [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", rf"{header} \\", r"\midrule", *lines, r"\bottomrule"]
    shrink = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
    return "\n".join([shrink, *body, r"\end{tabular}}"])


def _kind(shown: _Shown, column: int) -> str:
    if shown.breaks(column):
        return r">{\raggedright\arraybackslash}p{0.36\linewidth}"
    return "r" if shown.numbers[column] else "l"

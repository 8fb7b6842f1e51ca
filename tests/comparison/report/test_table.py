"""One table in four forms."""

import csv
import io

import pytest

from lightning_polycom.comparison.report.table import Measured, Table, si, to_csv, to_markdown

TABLE = Table(
    "t",
    "A_b & 50%",
    ["arm", "loss", "speed"],
    [["x|y", Measured(4.123456, 0.01), Measured(-7.0, decimals=1, style="percent")], ["<z>", Measured(3.0), None]],
    ("Note.",),
)


def test_markdown():
    assert to_markdown(TABLE).splitlines() == [
        r"### A\_b & 50%",
        "",
        "| arm | loss | speed |",
        "| --- | ---: | ---: |",
        "| x\\|y | 4.123 ± 0.010 | \N{MINUS SIGN}7.0 % |",
        r"| \<z> | 3.000 |  |",
        "",
        "Note.",
    ]


def test_csv_has_numbers_in_full():
    rows = list(csv.reader(io.StringIO(to_csv(TABLE))))
    assert rows == [["arm", "loss", "loss (±)", "speed"], ["x|y", "4.123456", "0.01", "-7"], ["<z>", "3", "", ""]]


def test_a_column_with_nothing_in_it_is_only_in_csv():
    table = Table("t", "T", ["arm", "p", "loss"], [["a", None, Measured(1.0)], ["b", "", None]])
    assert "| arm | loss |" in to_markdown(table)
    assert to_csv(table).splitlines()[0] == "arm,p,loss"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.5, "0.500"),
        (999, "999"),
        (999.9, "1.00 k"),
        (1234, "1.23 k"),
        (3.33e12, "3.33 T"),
        (2e15, "2.00 P"),
        (5e21, "5.00e+21"),
    ],
)
def test_large_numbers(value, text):
    assert si(value) == text

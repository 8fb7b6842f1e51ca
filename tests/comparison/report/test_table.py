"""One table in four forms."""

import csv
import io
import shutil
import subprocess

import pytest

from lightning_polycom.comparison.report.table import Measured, Table, si, to_csv, to_latex, to_markdown

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


def test_latex_is_escaped():
    text = to_latex(TABLE)
    assert r"\caption{A\_b \& 50\%. Note.}" in text
    assert r"x|y & 4.123 $\pm$ 0.010 & $-$7.0 \% \\" in text and r"$<$z$>$ & 3.000 &  \\" in text
    assert r"\begin{tabular}{lrr}" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex, which is not installed")
def test_latex_compiles(tmp_path):
    body = to_latex(TABLE)
    document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "t.tex").write_text(document)
    subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (999, "999"), (999.9, "1 k"), (1234, "1.23 k"), (3.33e12, "3.33 T"), (2e15, "2 P"), (5e21, "5e+21")],
)
def test_large_numbers(value, text):
    assert si(value) == text.replace("5e+21", "5.00e+21")

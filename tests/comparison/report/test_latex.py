"""Tables as pdflatex reads them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lightning_polycom.comparison.report.latex import to_latex
from lightning_polycom.comparison.report.table import Measured, Table
from lightning_polycom.comparison.report.tex_text import escape, unknown_characters

SPECIAL = "\\ { } & % $ # _ ~ ^ < > | [ ] * \" ` '"
NAMES = [
    SPECIAL.replace(" ", ""), "[a]", "*b", "--c", "relu^2_&_50%", "x → β, Ωγη",
    "± \N{MULTIPLICATION SIGN} ≤ \N{MINUS SIGN} \N{EN DASH} “q”",
    "éüçøßŁåžő", "W₁ x³",
    "激活 🙂 \t", "a" * 80, "/a/long_path/to/a_run/" * 3, "",
]  # fmt: skip


def table(names: list[str], columns: int) -> Table:
    """Rows of these names with a number in each of the columns, one of them below zero and one empty."""
    header = ["arm & arm", *(f"loss_{column} (%)" for column in range(columns))]
    cells = [Measured(-1.5, 0.25), *[Measured(12.345, 0.1, 4)] * (columns - 1)]
    return Table(
        "losses", "50% of A_b", header, [[name, *cells] for name in names] + [["last", *[None] * columns]], ("N.",)
    )


def test_every_special_character_is_escaped():
    shown = escape(SPECIAL.replace(" ", ""))
    for command in re.findall(r"\\[a-z]+\{\}|\\[&%$#_{}]|\$[<>]\$|\{[][*]\}|''", shown):
        shown = shown.replace(command, "", 1)
    assert shown == "'", "nothing is left but what stands for itself"
    assert escape("a--b,,c") == "a-{}-b,{},c"
    assert escape("x → β") == r"x $\rightarrow$ $\beta$" and escape("é") == r"\'{e}" and escape("x²") == "x$^2$"
    assert escape("\N{MINUS SIGN}1 ± 2") == r"$-$1 $\pm$ 2"
    assert escape("激") == "{[}U+6FC0{]}" and unknown_characters("激 a") == ["激"]
    assert escape("val/loss_a", breaks=True) == r"val/\allowbreak{}loss\_\allowbreak{}a"


def test_no_letter_outside_ascii_reaches_pdflatex():
    assert all(escape(chr(code)).isascii() for code in range(0x80, 0x2C00))


def test_form():
    text = to_latex(table(["x|y"], 2))
    assert r"\caption{50\% of A\_b. N.}" in text and r"\label{tab:losses}" in text
    assert "arm \\& arm & loss\\_0 (\\%) & loss\\_1 (\\%) \\\\" in text and r"\begin{tabular}{lrr}" in text
    assert r"x\textbar{}y & $-$1.500 $\pm$ 0.250 & 12.3450 $\pm$ 0.1000 \\" in text
    assert r"\begin{table}" in text and "last &  &  \\\\" in text


def test_wide_and_long_tables_are_divided():
    text = to_latex(table([f"run-{number}" for number in range(60)], 20))
    floats = text.split(r"\begin{table*}")[1:]
    assert len(floats) > 2 and all(part.count(r"\begin{tabular}") == 4 for part in floats)
    assert rf"\caption{{50\% of A\_b (2 of {len(floats)}).}}" in text
    assert text.count("run-7 & ") == 4, "each band of columns names its rows"
    assert text.count("$-$1.500") == 60 and text.count("12.3450") == 60 * 19, "no cell is lost or doubled"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex, which is not installed")
@pytest.mark.parametrize("options", ["", "twocolumn"])
def test_pdflatex_sets_every_table_within_the_page(tmp_path: Path, options):
    tables = [table(NAMES, 2), table([f"run-{number}" for number in range(60)], 20), Table("e", "Empty", ["arm"], [])]
    body = "\n\\clearpage\n".join(map(to_latex, tables))
    packages = r"\usepackage{array,booktabs,graphicx}"
    document = rf"\documentclass[{options}]{{article}}{packages}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "t.tex").write_text(document)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    log = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False).stdout
    assert "Output written on t.pdf" in log, log[-2000:]
    assert not re.findall(r"Overfull.*|Float too large.*|Missing character.*", log)

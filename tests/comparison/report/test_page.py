"""The folder that a report is: page, Markdown, tables, figures."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from synthetic_runs import write_comparison, write_run

from lightning_polycom.comparison.arms import check_arms
from lightning_polycom.comparison.gathering import gather
from lightning_polycom.comparison.report.content import Report, report_of
from lightning_polycom.comparison.report.write import write_report
from lightning_polycom.errors import InputError

FINALS = {"swiglu": [4.0, 4.03, 3.97], "polynorm": [3.95, 3.979, 3.921]}
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Checks that elements close in order; collects ids, references, text and what would be loaded."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.ids, self.references, self.loads, self.words = [], [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "xlink:href", "src"):
                (self.references if value.startswith("#") else self.loads).append(value.removeprefix("#"))
            self.references += re.findall(r"url\(#([^)]+)\)", value or "")
        assert tag not in ("script", "iframe", "object")

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def write(source: Path, folder: Path) -> str:
    gathered = gather([str(source)])
    arms = check_arms(gathered.runs, gathered.baseline, gathered.equal)
    return write_report(report_of(arms, gathered.name), folder).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("comparison") / "against_swiglu"
    write_comparison(folder, FINALS, "swiglu", analysed=True, tasks=True)
    return folder


@pytest.fixture(scope="module")
def output(comparison, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write(comparison, folder)
    return folder


def test_the_page_stands_alone(output):
    html = (output / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert all(load.startswith("data:") for load in page.loads), page.loads
    assert not re.search(r"@import|url\((?!#|data:)", html)
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)
    assert "prefers-color-scheme: dark" in html and 'name="viewport"' in html
    assert html.count("<svg") == len(list((output / "figures").glob("*.svg")))
    assert "#101316" not in html, "text of figures has the page's colour"


def test_everything_is_in_the_folder(output):
    text = (output / "report.md").read_text(encoding="utf-8")
    tables = {path.stem for path in (output / "tables").iterdir()}
    assert tables == {
        "differences", "domains", "tasks", "costs", "reach", "runs",
        "coefficients", "effective_rank", "activation_statistics",
    }  # fmt: skip
    assert {path.suffix for path in (output / "tables").iterdir()} == {".md", ".tex", ".csv"}
    figures = {path.stem for path in (output / "figures").iterdir()}
    assert {"difference-intervals", "val-loss-over-seconds", "val-loss-difference", "effective-rank-up"} <= figures
    assert {"coefficients-1-polynorm-coefficient-2", "similarity-0-swiglu", "statistics-input-kurtosis"} <= figures
    for name in re.findall(r"\(figures/(.*?)\)", text):
        with Image.open(output / "figures" / name) as image:
            assert image.size[0] > 500
    assert "**polynorm** (better): better by 0.0500 ± 0.0025 nats over 3 seeds" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Differences", "## Held-out text", "## Downstream tasks", "## Curves", "## Cost", "## Coefficients",
        "## Effective rank", "## Layer similarity", "## Activation statistics", "## Runs", "## Method",
    ]  # fmt: skip


def test_the_numbers_are_those_of_the_runs(output):
    rows = (output / "tables" / "differences.csv").read_text().splitlines()
    assert rows[0].startswith("arm,final loss,final loss (±),difference,difference (±),")
    cells = rows[2].split(",")
    assert cells[0] == "polynorm" and float(cells[1]) == pytest.approx(3.95 + 0.25, abs=1e-9)  # mean of a and b
    tasks = (output / "tables" / "tasks.csv").read_text()
    assert "quiz,acc,swiglu,0.32,0.01" in tasks and ",0.03,0.25," in tasks
    cost = next(csv.DictReader((output / "tables" / "costs.csv").open()))
    names = ("tokens/s", "peak memory (GiB)", "parameters", "FLOPs per token", "tokens", "FLOPs", "seconds")
    assert [float(cost[name]) for name in names] == pytest.approx([50_000, 0.6, 5e5, 6000, 1e5, 6e8, 2.0])


def test_the_same_runs_give_the_same_files(comparison, output, tmp_path):
    write(comparison, tmp_path)
    files = [path.relative_to(output) for path in output.rglob("*") if path.is_file()]
    assert len(files) > 50
    assert all((tmp_path / path).read_bytes() == (output / path).read_bytes() for path in files)


def test_names_are_escaped(tmp_path):
    name = '<b>"a&b"$x$_1</b>'
    for arm, final in ((name, 3.9), ("relu", 4.0)):
        write_run(tmp_path / f"run-{arm[0] == '<'}", "polyrelu", 1, final)
    runs = gather([f"{name.replace('/', '')}={tmp_path}/run-True", f"relu={tmp_path}/run-False"]).runs
    arms = check_arms(runs, "relu", "parameters")
    html = write_report(report_of(arms, "<script>alert(1)</script>"), tmp_path / "out").read_text(encoding="utf-8")
    page = Page(html)
    assert "<script>alert(1)</script>" in "".join(page.words)
    assert '<b>"a&b"$x$_1<b>' in "".join(page.words)
    assert "<b>" not in html


def test_what_is_absent_is_said_to_be(tmp_path):
    folder = write_comparison(tmp_path / "c", {"relu": [4.0], "gelu": [3.9]}, "relu")
    words = "".join(Page(write(folder, tmp_path / "out")).words)
    for text in (
        "No run has scores of downstream tasks",
        "No arm learns coefficients",
        "No run has been analysed for this",
        "There is one seed: no difference can be told",
    ):
        assert text in words


def test_marks_and_unequal_tuning_are_warned_of(tmp_path):
    folder = write_comparison(tmp_path / "c", {"relu": [4.0, 4.1], "gelu": [3.9, 4.0]}, "relu")
    started = {"started": "2030-01-01T00:00:00+0000"}  # after its first logged value
    write_run(folder / "gelu/other", "gelu", 1, 3.8, learning_rate=0.1, record=started)
    larger = json.loads((folder / "gelu/seed_1/run.json").read_text()) | {"num_parameters": 600_000, **started}
    (folder / "gelu/seed_1/run.json").write_text(json.dumps(larger))
    content = json.loads((folder / "comparison.json").read_text())
    entry = {"name": "gelu", "learning_rate": 0.1}
    content["arms"].append(entry | {"seed": 1, "run": "gelu/other", "status": "finished"})
    content["arms"].append(entry | {"seed": 2, "run": "gelu/next", "status": "pending"})
    (folder / "comparison.json").write_text(json.dumps(content))
    words = "".join(Page(write(folder, tmp_path / "out")).words)
    assert "1 of 6 runs have not begun (gelu 1): what is said here may still change." in words
    assert "gelu/other is in the means, but resumed." not in words, "another learning rate was chosen"
    assert "gelu/seed_1 is in the means, but resumed." in words
    assert "learning rates tried: relu 1, gelu 2" in words
    assert "gelu has 600 k parameters, relu 500 k: they are not equal." in words


def test_a_report_replaces_only_a_report(tmp_path):
    folder, empty = tmp_path / "out", Report("empty", "", {}, [], [], [], ())
    write_report(empty, folder)
    (folder / "figures").mkdir()
    (folder / "figures" / "old.png").write_bytes(b"")
    write_report(empty, folder)
    assert not (folder / "figures" / "old.png").exists()
    other = tmp_path / "other"
    (other / "tables").mkdir(parents=True)
    (other / "tables" / "mine.csv").write_text("1")
    with pytest.raises(InputError, match="is not empty and holds no report"):
        write_report(empty, other)
    assert (other / "tables" / "mine.csv").exists()

"""Slopes of exact power laws, the order of turns, and what is printed, drawn and run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_polycom.benchmarking.growth.figure import write_figure
from lightning_polycom.benchmarking.growth.growth import Growth, interleaved, slope
from lightning_polycom.benchmarking.growth.start_up import seconds_of, start_up_lines
from lightning_polycom.benchmarking.growth.table import growth_lines, slope_lines
from lightning_polycom.errors import InputError

ROOT = Path(__file__).parents[2]
SIZES = (16, 32, 64, 128, 256)


@pytest.mark.parametrize("exponent", [-1, 0, 0.5, 1, 2, 3])
def test_a_power_law_has_its_exponent_as_slope(exponent):
    assert slope(SIZES, [0.7 * size**exponent for size in SIZES]) == pytest.approx(exponent, abs=1e-9)


def test_only_the_upper_half_of_the_sizes_counts():
    assert slope(SIZES, [9.0, 0.1, 64, 128, 256]) == pytest.approx(1)
    assert slope(SIZES[:4], [9.0, 0.1, 64, 128]) == pytest.approx(1)
    assert slope(SIZES, [9.0, 0.1, 63, 128, 256]) != pytest.approx(1)
    assert slope(SIZES[:2], [1, 8]) == pytest.approx(3)


@pytest.mark.parametrize("sizes", [(16,), (16, 16), (32, 16)])
def test_sizes_must_ascend(sizes):
    with pytest.raises(ValueError, match="two or more that ascend"):
        slope(sizes, [1.0] * len(sizes))


def growth(axis: str = "width") -> Growth:
    return Growth(axis, (1, 2, 4, 8), (10, 40, 160, 640), (1.0, 2.0, 4.0, 8.0))


def test_slopes_and_ratios_are_of_work_and_of_seconds():
    found = growth()
    assert (found.expected_slope, found.measured_slope) == (pytest.approx(2), pytest.approx(1))
    assert found.expected_ratios == [1, 4, 16, 64] and found.measured_ratios == [1, 2, 4, 8]
    assert found.expected_seconds == [0.125, 0.5, 2, 8]
    assert json.loads(json.dumps(found.record()))["measured_slope"] == found.measured_slope


def test_work_that_does_not_grow_has_the_slope_zero():
    assert Growth("corpus", (1, 2, 4, 8), (1, 1, 1, 1), (1.0, 1.0, 1.0, 1.0)).expected_slope == 0


def test_sizes_take_turns_and_one_number_of_each_is_chosen():
    seconds, asked = {1: iter([5.0, 3.0, 4.0]), 2: iter([7.0, 9.0, 8.0])}, []

    def turn(size: int) -> float:
        asked.append(size)
        return next(seconds[size])

    assert interleaved({1: lambda: turn(1), 2: lambda: turn(2)}, 3, min) == [3, 7]
    assert asked == [1, 2, 2, 1, 1, 2]


def test_tables_have_every_size_and_axis():
    lines = growth_lines(growth())
    assert lines[0] == "width" and [line.split() for line in lines[2:]][-1] == ["8", "8", "64.00", "8.00"]
    assert len(lines) == 6
    summary = slope_lines([growth(), growth("depth")])
    assert [line.split() for line in summary[1:]] == [["width", "2.00", "1.00"], ["depth", "2.00", "1.00"]]


def test_start_up_is_held_against_its_limit():
    lines = start_up_lines({"polycom --help": 0.5, "fit --dry_run of dense_1b": 10.5})
    assert "  met: under 1 s" in lines[1] and "NOT met: under 10 s" in lines[2]


def test_the_picture_is_whole_and_nothing_else_is_left(tmp_path):
    write_figure([growth(str(number)) for number in range(5)], tmp_path / "new" / "scaling.png")
    assert (tmp_path / "new" / "scaling.png").read_bytes()[:4] == b"\x89PNG"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["scaling.png"]


def test_a_command_is_timed_to_its_end_or_to_a_line():
    assert seconds_of(["--help"], None, ROOT) > 0
    assert seconds_of(["--help"], "polycom", ROOT) > 0
    with pytest.raises(InputError, match="ended with exit code 0"):
        seconds_of(["--help"], "a line that is not there", ROOT)
    with pytest.raises(InputError, match=r"ended with exit code 2: .*nonsense"):
        seconds_of(["nonsense"], None, ROOT)


@pytest.mark.slow
def test_the_script_measures_tiny_sizes(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "scaling.py", "--sizes", "tiny", "--rounds", "1"]
    options = ["--axes", "depth", "questions", "--output", tmp_path]
    run = subprocess.run([*command, *options], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    record = json.loads((tmp_path / "scaling.json").read_text(encoding="utf-8"))
    depth, questions = record["axes"]["depth"], record["axes"]["questions"]
    assert 0 < depth["expected_slope"] < 1 and questions["expected_slope"] == pytest.approx(1)
    assert min(depth["seconds"] + questions["seconds"]) > 0
    assert (tmp_path / "scaling.png").stat().st_size > 0
    assert "depth" in run.stdout and "measured slope" in run.stdout

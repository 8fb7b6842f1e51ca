"""Shares, ratios, goals and lines of invented times, in which every number can be told in advance."""

import pytest

from lightning_polycom.benchmarking import table
from lightning_polycom.benchmarking.goals import goals
from lightning_polycom.benchmarking.measurement import Group, Measurement, Skipped, Times
from lightning_polycom.benchmarking.options import WAYS


def group(device: str, yardstick: float, rows: int = 16384, **times: dict[str, Times]) -> Group:
    found = Group(device, "bfloat16", rows, 2048, Times(yardstick))
    for name, ways in times.items():
        for way, measured in ways.items():
            found.measurements.append(Measurement(name, way, name.endswith("glu"), measured))
    return found


def on_gpu(both: float = 1.1, forward: float = 0.5, backward: float = 0.75) -> Group:
    """A copy takes 0.4 s, so that a pass takes 0.2 s."""
    return group(
        "cuda",
        0.4,
        gelu={"module": Times(1.0, 0.4, 0.6)},
        polynorm={
            "module": Times(both, forward, backward),
            "liger": Times(1.65, 0.8, 0.9),
            "reference_compiled": Times(1.32, 0.8, 0.9),
        },
        polynorm_glu={"module": Times(2.0, 0.6, 1.25)},
    )


def test_shares_count_the_passes_that_no_kernel_can_do_without():
    found = on_gpu()
    assert found.bandwidth == pytest.approx(2 * 16384 * 2048 * 2 / 0.4)
    assert found.shares(found.find("polynorm", "module")) == pytest.approx((0.4 / 0.5, 0.6 / 0.75))
    assert found.shares(found.find("polynorm_glu", "module")) == pytest.approx((0.6 / 0.6, 1.0 / 1.25))
    assert found.find("polynorm", "authors") is None


def test_the_floor_is_five_passes_and_eight_if_gated():
    found = group("cpu", 1.0, polynorm={"module": Times(2.0)}, polynorm_glu={"module": Times(3.2)})
    assert [found.to_floor(m) for m in found.measurements] == pytest.approx([2.0, 2.0])
    assert found.shares(found.measurements[0]) is None


def test_the_goals_of_a_gpu_are_met_at_their_limits():
    found = {goal.what: goal for goal in goals([on_gpu(both=1.0999)])}
    assert len(found) == 7 and all(goal.met for goal in found.values())
    assert found["polynorm, speed over Liger-Kernel's"].found == pytest.approx(1.5, rel=1e-3)


@pytest.mark.parametrize(
    ("times", "missed"),
    [
        ({"both": 1.1001}, {"Liger", "compiled", "GELU"}),
        ({"both": 1.0, "forward": 0.51}, {"polynorm forward"}),
        ({"both": 1.0, "backward": 0.76}, {"polynorm backward"}),
    ],
)
def test_a_goal_that_is_missed_is_said_to_be(times, missed):
    found = goals([on_gpu(**times)])
    unmet = [goal.what for goal in found if not goal.met]
    assert len(unmet) == len(missed) and all(any(word in what for what in unmet) for word in missed)
    assert [line.split()[0] for line in table.goal_lines(found)[2:]].count("NOT") == len(missed)


def test_the_goals_of_a_cpu():
    def met(polynorm: float, polyrelu: float, authors: float) -> list[bool]:
        times = {"module_compiled": Times(polynorm), "authors": Times(authors)}
        return [
            goal.met
            for goal in goals([group("cpu", 1.0, polynorm=times, polyrelu={"module_compiled": Times(polyrelu)})])
        ]

    assert met(2.05, 1.25, 31.0) == [True, True, True]
    assert met(2.15, 1.35, 31.0) == [False, False, False]


def test_what_was_not_measured_decides_nothing_nor_does_what_lies_in_a_cache():
    assert goals([group("cpu", 1.0, polynorm={"module": Times(1.0)})]) == []
    small = group("cpu", 1.0, rows=16383, polynorm={"module_compiled": Times(1.0)})
    assert goals([small]) == [] and table.goal_lines([]) == []


def test_lines_name_the_way_and_mark_page_faults():
    found = group("cpu", 1.0, polynorm={way: Times(2.0, settled=False) for way in WAYS})
    lines = [table.row(found, measured) for measured in found.measurements]
    assert not found.settled and len({len(line) for line in lines}) == 1
    for line, label in zip(lines, WAYS.values(), strict=True):
        assert line.split()[0] == "polynorm" and label in line and line.endswith("2.00*")
    gpu = on_gpu()
    assert "80% and 80%" in table.row(gpu, gpu.find("polynorm", "module")) and gpu.settled
    assert table.skipped_row(Skipped("polynorm", "liger", "no GPU")).endswith("left out: no GPU")
    assert all(len(lines) == 3 for lines in (table.heading(found), table.heading(gpu)))

"""What is read off a loss curve."""

import numpy as np
import pytest

from lightning_polycom.comparison.curves import TRAINING, VALIDATION, Curve, trailing_mean
from lightning_polycom.comparison.runs import Facts, Run
from lightning_polycom.comparison.series import Series, collect


def run_of(**series: list[tuple[int, float]]) -> Run:
    named = {
        tag.replace("__", "/"): Series(*map(np.array, zip(*points, strict=True))) for tag, points in series.items()
    }
    facts = Facts(tokens_per_step=10, flops_per_token=6.0)
    return Run("arm", 1, None, "a run", "finished", facts, named)


CURVE = [(10, 4.0), (20, 3.0), (40, 2.5)]


def test_axes_come_from_the_steps():
    speed = [(20, 100.0), (40, 50.0)]  # tokens per second up to this step
    curve = Curve(run_of(val__loss=CURVE, throughput__tokens_per_second=speed), VALIDATION)
    assert curve.x["tokens"].tolist() == [100, 200, 400]
    assert curve.x["flops"].tolist() == [600, 1200, 2400]
    assert curve.x["seconds"].tolist() == pytest.approx([1.0, 2.0, 6.0])
    assert Curve(run_of(val__loss=CURVE), VALIDATION).x["seconds"] is None
    assert (curve.final, curve.best, curve.end("tokens")) == (2.5, 2.5, 400.0)


def test_time_between_a_stop_and_a_resume_does_not_count():
    speed, tokens = [(10, 100.0), (20, 100.0)], [(10, 100), (20, 200)]  # time of day is not looked at
    run = run_of(val__loss=CURVE[:2], throughput__tokens_per_second=speed, progress__tokens=tokens)
    assert Curve(run, VALIDATION).end("seconds") == pytest.approx(2.0)


def test_reading_between_points():
    curve = Curve(run_of(val__loss=CURVE), VALIDATION)
    assert curve.at("tokens", 150) == pytest.approx(3.5)
    assert curve.at("tokens", 400) == 2.5
    assert curve.at("tokens", 99) is None and curve.at("tokens", 401) is None and curve.at("seconds", 1) is None
    assert curve.reaches("tokens", 3.25) == pytest.approx(175)
    assert curve.reaches("flops", 2.75) == pytest.approx(1800)
    assert curve.reaches("tokens", 4.5) == 100
    assert curve.reaches("tokens", 2.4) is None
    two = Curve(run_of(val__loss=CURVE[:2]), VALIDATION)  # too few to interpolate
    assert two.at("tokens", 150) is None and two.at("tokens", 200) == 3.0
    assert two.reaches("tokens", 3.0) == 200


def test_a_curve_without_a_finite_end_has_no_final_loss():
    assert Curve(run_of(val__loss=[(10, 4.0), (20, float("nan"))]), VALIDATION).final is None
    assert Curve(run_of(train__loss=CURVE), VALIDATION).final is None


def test_training_losses_are_means_over_what_came_before():
    steps, values = np.arange(1, 201), np.ones(200)
    values[100] = 2.0
    smooth = trailing_mean(steps, values)
    assert smooth[99] == 1.0 and smooth[100] == pytest.approx(1.1) and smooth[109] == pytest.approx(1.1)
    assert smooth[110] == 1.0
    assert trailing_mean(np.array([1, 2, 3]), np.array([3.0, 5.0, 7.0])).tolist() == [3, 4, 5]
    skipped = trailing_mean(np.array([1, 2, 3]), np.array([3.0, np.nan, 5.0]))
    assert skipped.tolist() == [3, 3, 4]
    assert Curve(run_of(train__loss=[(n, 4.0) for n in range(1, 30)]), TRAINING).final == pytest.approx(4.0)


def test_of_two_values_of_a_step_the_later_counts():
    rows = [{"step": 2, "a": 1}, {"step": 1, "a": 5}, {"step": 2, "a": 3}, {"step": 3, "a": None, "text": "x"}]
    series = collect(rows)
    assert list(series) == ["a"]
    assert series["a"].steps.tolist() == [1, 2, 3]
    assert series["a"].values[:2].tolist() == [5, 3] and np.isnan(series["a"].values[2])

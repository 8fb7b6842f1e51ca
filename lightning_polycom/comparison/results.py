"""What every arm came to, and how it differs from the baseline."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from lightning_polycom.comparison.arms import Arms
from lightning_polycom.comparison.curves import AXES, Curve
from lightning_polycom.comparison.runs import Run
from lightning_polycom.comparison.statistics import (
    Difference,
    holm,
    mean_and_spread,
    paired_difference,
    pooled_p_values,
)


class Reach(NamedTuple):
    """How far an arm trains until it is down at the baseline's final loss of the same seed.

    Attributes:
        reached: Seeds in which it gets there.
        count: Seeds in which the run tells.
        place: Mean tokens, FLOPs or seconds; None unless every seed gets there.
        ratio: Mean of place over what the baseline's run took; None likewise.
    """

    reached: int
    count: int
    place: float | None
    ratio: float | None


@dataclass(frozen=True)
class Result:
    """One arm's outcome. Lists are in the order of `runs`; differences are arm - baseline, paired by seed.

    Args:
        name: The arm.
        runs: One usable run per seed, at the best learning rate.
        left_out: Runs that enter no mean.
        rates: Mean final loss and number of usable seeds by learning rate.
        curves: Loss curves of the runs.
        difference: Of the final loss; None for the baseline.
        p_value: Of that difference, corrected for all arms.
        p_pooled: The same with the noise taken from all arms together; None unless all have the same seeds.
        at_equal: Difference of the loss at equal tokens, FLOPs and seconds, where runs tell.
        p_at_equal: Their p values, corrected for all arms.
        slowdown: Difference of log(seconds per token).
        reach: Tokens, FLOPs and seconds to the baseline's final loss.
    """

    name: str
    runs: list[Run]
    left_out: list[Run]
    rates: dict[float | None, tuple[float, int]]
    curves: list[Curve]
    difference: Difference | None = None
    p_value: float | None = None
    p_pooled: float | None = None
    at_equal: dict[str, Difference | None] = field(default_factory=dict)
    p_at_equal: dict[str, float | None] = field(default_factory=dict)
    slowdown: Difference | None = None
    reach: dict[str, Reach] = field(default_factory=dict)

    def final(self) -> list[float]:
        """Final losses."""
        return [curve.final for curve in self.curves if curve.final is not None]


def results_of(arms: Arms) -> list[Result]:
    """Results of all arms, the baseline's first; p values are corrected by Holm's method over the other arms."""
    results = [_outcome(arms, name) for name in arms.runs]
    baseline = results[0]
    compared = [baseline, *(_compare(result, baseline) for result in results[1:])]
    corrected = holm([result.difference and result.difference.p_value for result in compared])
    pooled = [None, *holm(_pooled(results))]
    by_axis = {a: holm([_p_value(result.at_equal.get(a)) for result in compared]) for a in AXES}
    return [
        replace(
            result,
            p_value=corrected[index],
            p_pooled=pooled[index],
            p_at_equal={axis: values[index] for axis, values in by_axis.items()},
        )
        for index, result in enumerate(compared)
    ]


def _pooled(results: list[Result]) -> list[float | None]:
    if len({tuple(run.seed for run in result.runs) for result in results}) > 1:
        return [None] * (len(results) - 1)
    return pooled_p_values(np.array([result.final() for result in results]))


def _p_value(difference: Difference | None) -> float | None:
    return None if difference is None else difference.p_value


def _outcome(arms: Arms, name: str) -> Result:
    usable = arms.usable(name)
    by_rate: dict[float | None, list[Run]] = {}
    for run in usable:
        by_rate.setdefault(run.learning_rate, []).append(run)
    means = {
        rate: (mean_and_spread([Curve(run, arms.measure).final for run in runs])[0], len(runs))
        for rate, runs in by_rate.items()
    }
    most = max((count for _, count in means.values()), default=0)
    complete = {rate: mean for rate, (mean, count) in means.items() if count == most}
    runs = by_rate[min(complete, key=complete.get)] if complete else []
    runs = sorted(runs, key=lambda run: run.seed)
    left_out = [run for run in arms.runs[name] if not run.is_usable]
    return Result(name, runs, left_out, means, [Curve(run, arms.measure) for run in runs])


def paired(
    result: Result, baseline: Result, value: Callable[[Run, Run], tuple[float, float] | None]
) -> Difference | None:
    """The paired difference of a `value` of (the arm's run, the baseline's run of its seed); None is left out."""
    others = {run.seed: run for run in baseline.runs}
    pairs = [value(run, others[run.seed]) for run in result.runs if run.seed in others]
    known = [pair for pair in pairs if pair is not None]
    return paired_difference([ours for ours, _ in known], [theirs for _, theirs in known])


def paired_by_tag(result: Result, baseline: Result, tag: str) -> Difference | None:
    """The paired difference of a tag's last values; None for the baseline itself."""
    if result is baseline:
        return None

    def last(ours: Run, theirs: Run) -> tuple[float, float] | None:
        pair = ours.last(tag), theirs.last(tag)
        return None if None in pair else pair

    return paired(result, baseline, last)


def _compare(result: Result, baseline: Result) -> Result:
    curves = dict(zip([*result.runs, *baseline.runs], [*result.curves, *baseline.curves], strict=True))

    def equal(axis: str) -> Callable[[Run, Run], tuple[float, float] | None]:
        def losses(ours: Run, theirs: Run) -> tuple[float, float] | None:
            ends = curves[ours].end(axis), curves[theirs].end(axis)
            if None in ends or (axis == "seconds" and ours.facts.device != theirs.facts.device):
                return None
            pair = curves[ours].at(axis, min(ends)), curves[theirs].at(axis, min(ends))
            return None if None in pair else pair

        return losses

    return replace(
        result,
        difference=paired(result, baseline, lambda ours, theirs: (curves[ours].final, curves[theirs].final)),
        at_equal={axis: paired(result, baseline, equal(axis)) for axis in AXES},
        slowdown=paired(result, baseline, lambda ours, theirs: _log_seconds(ours, theirs, curves)),
        reach={axis: _reach(result, baseline, curves, axis) for axis in AXES},
    )


def _log_seconds(ours: Run, theirs: Run, curves: dict[Run, Curve]) -> tuple[float, float] | None:
    """Logarithm of the seconds per token of both; None where a run does not tell or the machines differ."""
    pairs = [(curves[run].end("seconds"), curves[run].end("tokens")) for run in (ours, theirs)]
    if ours.facts.device != theirs.facts.device or not all(a and b for a, b in pairs):
        return None
    return tuple(math.log(seconds / tokens) for seconds, tokens in pairs)


def _reach(result: Result, baseline: Result, curves: dict[Run, Curve], axis: str) -> Reach:
    others, places, ratios, count = {run.seed: run for run in baseline.runs}, [], [], 0
    for run in (run for run in result.runs if run.seed in others):
        other = others[run.seed]
        end = curves[other].end(axis)
        if not end or curves[run].end(axis) is None:
            continue
        if axis == "seconds" and run.facts.device != other.facts.device:
            continue
        count += 1
        place = curves[run].reaches(axis, curves[other].final)
        if place is not None:
            places.append(place)
            ratios.append(place / end)
    whole = count > 0 and len(places) == count
    mean = (sum(places) / count, sum(ratios) / count) if whole else (None, None)
    return Reach(len(places), count, *mean)

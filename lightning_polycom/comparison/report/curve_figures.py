"""Curves of all arms, and how they differ from the baseline."""

from typing import TYPE_CHECKING

import numpy as np

from lightning_polycom.comparison.curves import AXES, TRAINING, Curve, trailing_mean
from lightning_polycom.comparison.report.figures import (
    FOREGROUND,
    MARKS,
    Picture,
    add_legend,
    line_style,
    mark_style,
    new_axes,
    si_axis,
)
from lightning_polycom.comparison.results import Result
from lightning_polycom.comparison.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SECTION = "Curves"
POINTS = 400  # of a drawn curve at most
SHOWN = 0.1  # the first tenth of training, where losses fall by nats, sets no limit of the y axis


def curve_pictures(results: list[Result], measure: str) -> list[Picture]:
    """The deciding loss, and the training loss where that is another, over tokens, FLOPs and seconds."""
    pictures = []
    for which in dict.fromkeys((measure, TRAINING)):
        curves = {result.name: [Curve(run, which) for run in result.runs] for result in results}
        for axis in AXES:
            if axis == "seconds" and not _of_one_machine(results):
                continue
            if all(curve.end(axis) for of_arm in curves.values() for curve in of_arm) and any(curves.values()):
                pictures.append(_curve_picture(curves, which, axis))
    return pictures


def _of_one_machine(results: list[Result]) -> bool:
    """Whether seconds may stand on one axis."""
    return len({run.facts.device for result in results for run in result.runs}) == 1


def _curve_picture(curves: dict[str, list[Curve]], measure: str, axis: str) -> Picture:
    figure, axes = new_axes()
    highest, lowest = [], []
    for index, (name, of_arm) in enumerate((name, of_arm) for name, of_arm in curves.items()):
        if not of_arm:
            continue
        tokens = _grid(of_arm)
        x = np.mean([np.interp(tokens, curve.x["tokens"], curve.x[axis]) for curve in of_arm], axis=0)
        losses = np.array([np.interp(tokens, curve.x["tokens"], curve.loss) for curve in of_arm])
        _band(axes, x, losses, index, name)
        later = losses[:, tokens >= SHOWN * tokens[-1]]
        highest.append(np.nanmax(later))
        lowest.append(np.nanmin(later))
    margin = 0.04 * (max(highest) - min(lowest))
    axes.set_ylim(min(lowest) - margin, max(highest) + margin)
    kind = "validation loss" if measure != TRAINING else "smoothed training loss"
    axes.set(xlabel=AXES[axis], ylabel=f"{kind} (nats/token)")
    si_axis(axes)
    add_legend(figure, axes)
    name = f"{measure.replace('/', '-')}-over-{axis}"
    return Picture(name, SECTION, f"{kind.capitalize()} over {AXES[axis]}; mean over seeds.", figure)


def _grid(curves: list[Curve]) -> np.ndarray:
    """Tokens at which the curves of one arm are drawn: where all of them are."""
    first, last = max(curve.x["tokens"][0] for curve in curves), min(curve.end("tokens") for curve in curves)
    points = curves[0].x["tokens"]
    points = points[(points >= first) & (points <= last)]
    return points if len(points) <= POINTS else np.linspace(first, last, POINTS)


def _band(axes: "Axes", x: np.ndarray, values: np.ndarray, index: int, name: str) -> None:
    """The mean over the rows of `values` as a line, and from the lowest to the highest a band."""
    style = line_style(index)
    axes.plot(x, values.mean(axis=0), label=name, linewidth=1.4, **style, **mark_style(index, len(x)))
    if len(values) > 1:
        axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.2, linewidth=0)


def difference_curves(results: list[Result], measure: str) -> list[Picture]:
    """How far the arms are from the baseline's run of the same seed at the same step, over tokens."""
    pictures = []
    for which in dict.fromkeys((measure, TRAINING)):
        figure, axes = new_axes()
        axes.axhline(0, color=FOREGROUND, linewidth=0.8)
        found, latest = False, []
        for index, result in enumerate(results[1:], 1):
            tokens, values = _differences(result, results[0], which)
            if len(values):
                found = True
                _band(axes, tokens, values, index, result.name)
                latest.append(np.abs(values[:, tokens >= SHOWN * tokens[-1]]).max())
        if not found:
            continue
        axes.set_ylim(-1.08 * max(latest), 1.08 * max(latest))
        kind = "Validation loss" if which != TRAINING else "Smoothed training loss"
        axes.set(xlabel=AXES["tokens"], ylabel="difference of loss (nats/token)")
        si_axis(axes)
        add_legend(figure, axes)
        caption = f"{kind} minus that of {results[0].name} with the same seed, mean over seeds; below 0 is better."
        pictures.append(Picture(f"{which.replace('/', '-')}-difference", SECTION, caption, figure))
    return pictures


def _differences(result: Result, baseline: Result, tag: str) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, and differences (pairs, steps) at the steps that all have; the training loss is smoothed afterwards."""
    others = {run.seed: run for run in baseline.runs}
    pairs = [(run, others[run.seed]) for run in result.runs if run.seed in others]
    pairs = [(ours, theirs) for ours, theirs in pairs if tag in ours.series and tag in theirs.series]
    if not pairs:
        return np.array([]), np.array([])
    steps = _common_steps([run for pair in pairs for run in pair], tag)
    if len(steps) < 2:
        return np.array([]), np.array([])
    rows = []
    for ours, theirs in pairs:
        row = _values_at(ours, tag, steps) - _values_at(theirs, tag, steps)
        rows.append(trailing_mean(steps, row) if tag == TRAINING else row)
    kept = np.unique(np.linspace(0, len(steps) - 1, min(POINTS, len(steps))).astype(int))
    return pairs[0][0].tokens_at(steps[kept]), np.array(rows)[:, kept]


def _common_steps(runs: list[Run], tag: str) -> np.ndarray:
    steps = runs[0].series[tag].steps
    for run in runs[1:]:
        steps = np.intersect1d(steps, run.series[tag].steps)
    return steps


def _values_at(run: Run, tag: str, steps: np.ndarray) -> np.ndarray:
    series = run.series[tag]
    return series.values[np.searchsorted(series.steps, steps)]


def interval_picture(results: list[Result]) -> Picture | None:
    """Differences of the final loss with their intervals and every seed; None without pairs."""
    shown = [(index, result) for index, result in enumerate(results) if result.difference is not None]
    if not shown:
        return None
    figure, axes = new_axes(height=1.3 + 0.42 * len(shown))
    axes.axvline(0, color=FOREGROUND, linewidth=0.8)
    for row, (index, result) in enumerate(shown):
        color, difference = line_style(index)["color"], result.difference
        if difference.half_width is not None:
            axes.plot([difference.mean - difference.half_width, difference.mean + difference.half_width], [row, row],
                      color=color, linewidth=2, solid_capstyle="butt")  # fmt: skip
        axes.plot(difference.mean, row, color=color, marker=MARKS[index % len(MARKS)], markersize=7)
        offsets = np.full(len(difference.values), row + 0.26)
        axes.plot(difference.values, offsets, "o", color=color, markersize=3, alpha=0.6)
    axes.set_yticks(range(len(shown)), [result.name for _, result in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel("difference of final loss (nats/token)")
    axes.locator_params(axis="x", nbins=5)
    caption = (
        f"Final loss minus that of {results[0].name}, paired by seed: mean with 95% interval (one arm at a time, not "
        "corrected), and below it every seed. Left of 0 is better; an interval that touches 0 leaves open which is."
    )
    return Picture("difference-intervals", "Differences", caption, figure)

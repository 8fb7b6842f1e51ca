"""A run's loss as a curve over tokens, FLOPs or seconds, and what can be read off it."""

import numpy as np

from lightning_polycom.comparison.runs import Run

AXES = {"tokens": "training tokens", "flops": "training FLOPs", "seconds": "seconds of training"}
VALIDATION, TRAINING = "val/loss", "train/loss"
WINDOW = 0.05  # of a run: what the training loss is averaged over
LEAST_POINTS = 3  # of a curve, to interpolate between them


class Curve:
    """Loss over tokens, FLOPs and seconds of one run.

    Seconds are those of training steps, as the run's throughput has them: validation, evaluation, checkpoints and the
    time between a stop and a resume are not in them.

    Args:
        run: The run; unfinished ones have shorter curves.
        measure: `val/loss` as it was logged, or `train/loss` as the mean over the last twentieth of the run before each
            step (at least five logged values, if there are as many).
    """

    def __init__(self, run: Run, measure: str):
        series = run.series.get(measure)
        self.steps = np.array([], dtype=np.int64) if series is None else series.steps
        self.loss = np.array([]) if series is None else series.values
        if measure == TRAINING and len(self.steps):
            self.loss = trailing_mean(self.steps, self.loss)
        self.x = {"tokens": run.tokens_at(self.steps), "flops": _flops(run, self.steps)}
        self.x["seconds"] = _seconds(run, self.steps)

    @property
    def final(self) -> float | None:
        """The last loss; None if the curve is empty or it is not finite."""
        return float(self.loss[-1]) if len(self.loss) and np.isfinite(self.loss[-1]) else None

    @property
    def best(self) -> float | None:
        """The lowest loss; None if the curve is empty."""
        return None if self.final is None else float(np.nanmin(self.loss))

    def end(self, axis: str) -> float | None:
        """Where the curve ends on an axis; None if the run does not tell."""
        x = self.x[axis]
        return None if x is None or not len(x) else float(x[-1])

    def at(self, axis: str, x: float) -> float | None:
        """The loss at a place, linear between two points; None outside the curve or with too few points."""
        places = self.x[axis]
        if places is None or not len(places) or not places[0] <= x <= places[-1] * (1 + 1e-9):
            return None
        if x >= places[-1]:
            return self.final
        if len(places) < LEAST_POINTS:
            return None
        value = float(np.interp(x, places, self.loss))
        return value if np.isfinite(value) else None

    def reaches(self, axis: str, loss: float) -> float | None:
        """The first place where the curve, linear between its points, is down at `loss`; None if it never is."""
        places = self.x[axis]
        below = np.flatnonzero(self.loss <= loss)  # nan is not
        if places is None or not len(below) or (len(places) < LEAST_POINTS and below[0] != len(places) - 1):
            return None
        index = int(below[0])
        if index == 0 or not np.isfinite(self.loss[index - 1]):
            return float(places[index])
        share = (self.loss[index - 1] - loss) / (self.loss[index - 1] - self.loss[index])
        return float(places[index - 1] + share * (places[index] - places[index - 1]))


def trailing_mean(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """At each step the mean of the values in the twentieth of the run before it, at least five of them."""
    first = np.searchsorted(steps, steps - WINDOW * steps[-1], side="right")
    first = np.clip(np.minimum(first, np.arange(len(steps)) - 4), 0, None)
    finite = np.isfinite(values)  # a step that was skipped has no loss
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    with np.errstate(invalid="ignore"):
        return (sums[1:] - sums[first]) / (counts[1:] - counts[first])


def _flops(run: Run, steps: np.ndarray) -> np.ndarray | None:
    logged = run.series.get("progress/flops")
    if logged is not None:
        return np.interp(steps, np.concatenate([[0], logged.steps]), np.concatenate([[0.0], logged.values]))
    per_token = run.facts.flops_per_token
    return None if per_token is None else run.tokens_at(steps) * per_token


def _seconds(run: Run, steps: np.ndarray) -> np.ndarray | None:
    logged = run.series.get("progress/seconds")
    if logged is not None:
        return np.interp(steps, np.concatenate([[0], logged.steps]), np.concatenate([[0.0], logged.values]))
    speed = run.series.get("throughput/tokens_per_second")
    if speed is None or not np.all(speed.values > 0):
        return None
    tokens = run.tokens_at(speed.steps)
    seconds = np.cumsum(np.diff(tokens, prepend=0.0) / speed.values)  # the first step, which is not timed, as the next
    return np.interp(steps, np.concatenate([[0], speed.steps]), np.concatenate([[0.0], seconds]))

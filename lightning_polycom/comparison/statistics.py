"""What differences over seeds allow one to say."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
LEAST_FOR_BOOTSTRAP = 10  # pairs; with fewer, resampling them covers the truth too rarely
RESAMPLES = 9999


class Difference(NamedTuple):
    """A mean of paired differences.

    Attributes:
        mean: Over the pairs.
        half_width: Of the 95% confidence interval, which is symmetric; None with one pair or none that differ in it.
        p_value: Two-sided, of the mean being 0; None where there is no interval.
        values: The differences, one per pair.
        method: `t`, `bootstrap` or `none`: where the interval comes from.
    """

    mean: float
    half_width: float | None
    p_value: float | None
    values: tuple[float, ...]
    method: str

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval does."""
        return self.half_width is not None and abs(self.mean) > self.half_width


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> Difference | None:
    """The mean of values[i] - baseline[i] with a 95% confidence interval; None without pairs.

    Up to nine pairs the interval is Student's t on n - 1 degrees of freedom, which is exact for normal differences also
    with two pairs. From ten pairs on it is the symmetric bootstrap-t (Hall 1988; 9,999 resamples, fixed seed), which
    assumes no distribution. One pair has no interval, nor have pairs whose differences are all the same number:
    a spread of 0 (as with scores on few questions) says nothing about the next seed.
    """
    differences = np.asarray(values, dtype=float) - np.asarray(baseline, dtype=float)
    count = len(differences)
    if count == 0:
        return None
    mean, spread = float(differences.mean()), float(differences.std(ddof=1)) if count > 1 else 0.0
    if spread <= 1e-12 * (1 + abs(mean)):
        return Difference(mean, None, None, tuple(differences.tolist()), "none")
    error = spread / count**0.5
    width, p_value = _student(mean / error, count) if count < LEAST_FOR_BOOTSTRAP else _bootstrap(differences)
    method = "t" if count < LEAST_FOR_BOOTSTRAP else "bootstrap"
    return Difference(mean, width * error, p_value, tuple(differences.tolist()), method)


def _student(statistic: float, count: int) -> tuple[float, float]:
    """Half width in standard errors, and p value."""
    from scipy import stats  # a fifth of a second

    return float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)), float(2 * stats.t.sf(abs(statistic), count - 1))


def _bootstrap(differences: np.ndarray) -> tuple[float, float]:
    """Half width in standard errors, and p value, from the studentised means of resampled pairs."""
    count, mean = len(differences), differences.mean()
    drawn = np.random.default_rng(0).choice(differences, (RESAMPLES, count))
    errors = drawn.std(axis=1, ddof=1) / count**0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        statistics = np.abs(np.nan_to_num((drawn.mean(axis=1) - mean) / errors, nan=np.inf))
    observed = abs(mean) / (differences.std(ddof=1) / count**0.5)
    p_value = (1 + np.count_nonzero(statistics >= observed)) / (1 + RESAMPLES)
    return float(np.quantile(statistics, CONFIDENCE)), float(p_value)


def pooled_p_values(losses: np.ndarray) -> list[float | None]:
    """P values of every arm's difference to the first, with the noise estimated from all arms together.

    `losses` is (arms, seeds). The model is loss = arm + seed + noise with noise of one size for all arms (two-way
    analysis of variance), so that few seeds of many arms add up: (arms - 1)(seeds - 1) degrees of freedom in place of
    seeds - 1. None where that is not at least 2, or there is no noise.
    """
    from scipy import stats

    arms, seeds = losses.shape
    freedom = (arms - 1) * (seeds - 1)
    residuals = losses - losses.mean(axis=1, keepdims=True) - losses.mean(axis=0) + losses.mean()
    variance = float((residuals**2).sum()) / max(1, freedom)
    if arms < 3 or freedom < 2 or variance <= 1e-24:
        return [None] * (arms - 1)
    differences = losses[1:].mean(axis=1) - losses[0].mean()
    return (2 * stats.t.sf(np.abs(differences) / (2 * variance / seeds) ** 0.5, freedom)).tolist()


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P values corrected for being several (Holm 1979): the chance of any false positive among them stays below 5%.

    None stays None, and does not count.
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[index] = largest
    return corrected


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation (of the sample, over seeds); no spread with one value."""
    numbers = np.asarray(values, dtype=float)
    return float(numbers.mean()), float(numbers.std(ddof=1)) if len(numbers) > 1 else None

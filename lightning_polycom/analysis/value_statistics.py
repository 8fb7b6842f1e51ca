"""Statistics of a stream of values that are seen once and not kept."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
CHUNK = 1 << 20  # values that are held in fp64 at once

# A value's bin is the upper half of its fp32 bits: sign, exponent and 7 bits of the fraction. So a bin is 1/128 of its
# values wide, from the smallest to the largest number, and its middle is off by at most 1/256.
BINS = 1 << 16
QUANTILE_ERROR = 2.0**-8


class Moments(NamedTuple):
    """Count, mean and the sums of the second, third and fourth power of the distance from the mean."""

    count: int = 0
    mean: float = 0.0
    second: float = 0.0
    third: float = 0.0
    fourth: float = 0.0

    def merged(self, other: "Moments") -> "Moments":
        """The moments of both sets of values together (Pebay, 2008, equations 2.1, 1.5 and 1.6)."""
        if not self.count or not other.count:
            return self if self.count else other
        a, b = self.count, other.count
        n, delta = a + b, other.mean - self.mean
        return Moments(
            n,
            self.mean + delta * b / n,
            self.second + other.second + delta**2 * a * b / n,
            self.third
            + other.third
            + delta**3 * a * b * (a - b) / n**2
            + 3 * delta * (a * other.second - b * self.second) / n,
            self.fourth
            + other.fourth
            + delta**4 * a * b * (a * a - a * b + b * b) / n**3
            + 6 * delta**2 * (a * a * other.second + b * b * self.second) / n**2
            + 4 * delta * (a * other.third - b * self.third) / n,
        )


class ValueStatistics:
    """Adds up what is asked of a tensor's values, in half a megabyte whatever their number.

    Sums are fp64. Quantiles come from a histogram and are off by at most QUANTILE_ERROR of their size; numbers below
    2^-133 count there as 0. Values that are not finite are counted and otherwise left out.
    """

    def __init__(self) -> None:
        self.moments = Moments()
        self.zeros = self.not_finite = 0
        self.least, self.largest = math.inf, -math.inf
        self._histogram = torch.zeros(BINS, dtype=torch.int64)

    def __getstate__(self) -> dict[str, Any]:
        """Of the histogram only the bins that hold something, a small part of all."""
        used = self._histogram.nonzero().flatten()
        return {**self.__dict__, "_histogram": (used, self._histogram[used])}

    def __setstate__(self, state: dict[str, Any]) -> None:
        used, counts = state["_histogram"]
        self.__dict__ = {**state, "_histogram": torch.zeros(BINS, dtype=torch.int64).index_put((used,), counts)}

    def add(self, values: Tensor) -> None:
        """Adds a floating-point tensor of any shape and dtype, in place of keeping it."""
        for chunk in values.detach().flatten().split(CHUNK):
            self._add_finite(chunk)

    def merge(self, other: "ValueStatistics") -> None:
        """Adds what another one has seen."""
        self.moments = self.moments.merged(other.moments)
        self.zeros, self.not_finite = self.zeros + other.zeros, self.not_finite + other.not_finite
        self.least, self.largest = min(self.least, other.least), max(self.largest, other.largest)
        self._histogram += other._histogram

    def _add_finite(self, values: Tensor) -> None:
        finite = values.isfinite()
        if not finite.all():
            self.not_finite += int((~finite).sum())
            values = values[finite]
        if not values.numel():
            return
        least, largest = values.aminmax()
        self.least, self.largest = min(self.least, least.item()), max(self.largest, largest.item())
        self.zeros += values.numel() - int(values.count_nonzero())
        bins = (values.float().view(torch.int32) >> 16) & (BINS - 1)
        self._histogram += torch.bincount(bins, minlength=BINS).cpu()
        self.moments = self.moments.merged(_moments(values.double()))

    @property
    def max_abs(self) -> float:
        """The largest absolute value; nan before the first value."""
        return max(-self.least, self.largest) if self.moments.count else math.nan

    @property
    def kurtosis(self) -> float:
        """Fourth central moment over the squared variance: 3 for a normal distribution; nan for equal values."""
        if self.least >= self.largest or self.moments.second == 0:
            return math.nan
        return self.moments.count * self.moments.fourth / self.moments.second**2

    def quantiles(self, probabilities: tuple[float, ...] = QUANTILES) -> dict[float, float]:
        """By probability p, the smallest value that a share p of the values does not exceed; nan before the first."""
        counts = torch.cat([self._histogram[BINS // 2 :].flip(0), self._histogram[: BINS // 2]]).cumsum(0)
        total = int(counts[-1])
        if total == 0:
            return dict.fromkeys(probabilities, math.nan)
        wanted = torch.tensor([max(1, math.ceil(p * total)) for p in probabilities])
        middles = _bin_middles()[torch.searchsorted(counts, wanted)].clamp(self.least, self.largest)
        return dict(zip(probabilities, middles.tolist(), strict=True))

    def summary(self) -> dict[str, Any]:
        """All statistics by name; fractions of all values, nan where there is nothing to say."""
        count = self.moments.count
        return {
            "count": count,
            "zero_fraction": self.zeros / count if count else math.nan,
            "not_finite_fraction": self.not_finite / max(1, count + self.not_finite),
            "mean": self.moments.mean if count else math.nan,
            "std": math.sqrt(self.moments.second / count) if count else math.nan,
            "kurtosis": self.kurtosis,
            "quantiles": {str(p): value for p, value in self.quantiles().items()},
            "max_abs": self.max_abs,
        }


def overflow_headroom_bits(max_abs: float, power: int) -> dict[str, float]:
    """log2 of a format's largest number over max_abs^power, by format: below 0 the power overflows there; inf for 0."""
    used = power * math.log2(max_abs) if max_abs > 0 else -math.inf if max_abs == 0 else math.nan
    formats = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    return {name: math.log2(torch.finfo(dtype).max) - used for name, dtype in formats.items()}


def _moments(values: Tensor) -> Moments:
    """Of fp64 values of one dimension, at least one."""
    mean = values.mean()
    distance = values - mean
    squared = distance.square()
    sums = torch.stack([mean, squared.sum(), squared @ distance, squared @ squared]).tolist()
    return Moments(values.numel(), *sums)


def _bin_middles() -> Tensor:
    """The middle of every bin in ascending order, fp64 (BINS,); 0 for the two bins that hold the zeros."""
    positive = ((torch.arange(BINS // 2, dtype=torch.int32) << 16) | 0x8000).view(torch.float32).double()
    positive[0] = 0.0
    return torch.cat([-positive.flip(0), positive])

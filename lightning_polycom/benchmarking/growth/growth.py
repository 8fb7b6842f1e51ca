"""Seconds against sizes, and the slopes that they have and should have. Imports nothing heavy."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import linear_regression


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The exponent of the power law nearest to `values` over the upper half of `sizes`, which must ascend.

    Least squares of logarithms. The lower half is left out because fixed costs flatten it; of an odd number of sizes
    the middle one counts.

    Raises:
        ValueError: fewer than two sizes, sizes that do not ascend, or numbers that have no logarithm.
    """
    if len(sizes) < 2 or any(later <= earlier for earlier, later in pairwise(sizes)):
        raise ValueError(f"sizes: found {list(sizes)}; give two or more that ascend")
    pairs = list(zip(sizes, values, strict=True))[-max(2, (len(sizes) + 1) // 2) :]
    logarithms = [[math.log(number) for number in column] for column in zip(*pairs, strict=True)]
    return linear_regression(*logarithms).slope


@dataclass(frozen=True)
class Growth:
    """One axis: `work` and `seconds` at each of its ascending `sizes`.

    `work` is in any unit (FLOPs, questions), because only its ratios count; all the same means that no growth is
    expected.
    """

    axis: str
    sizes: tuple[int, ...]
    work: tuple[float, ...]
    seconds: tuple[float, ...]

    @property
    def expected_slope(self) -> float:
        """That of the work."""
        return slope(self.sizes, self.work)

    @property
    def measured_slope(self) -> float:
        """That of the seconds."""
        return slope(self.sizes, self.seconds)

    @property
    def expected_ratios(self) -> list[float]:
        """Work at each size over that at the first."""
        return [value / self.work[0] for value in self.work]

    @property
    def measured_ratios(self) -> list[float]:
        """Seconds at each size over those at the first."""
        return [value / self.seconds[0] for value in self.seconds]

    @property
    def expected_seconds(self) -> list[float]:
        """A line of the work's shape through the last measured time, whose fixed costs weigh least."""
        return [self.seconds[-1] * value / self.work[-1] for value in self.work]

    def record(self) -> dict:
        """Every number as plain types, for JSON."""
        return {
            "sizes": list(self.sizes),
            "work": list(self.work),
            "seconds": list(self.seconds),
            "expected_ratios": self.expected_ratios,
            "measured_ratios": self.measured_ratios,
            "expected_slope": self.expected_slope,
            "measured_slope": self.measured_slope,
        }


def interleaved(
    turns: dict[int, Callable[[], float]], rounds: int, choose: Callable[[list[float]], float]
) -> list[float]:
    """What `choose` makes of each turn's seconds over the rounds, in the order of `turns`.

    Each round takes every turn once, forwards and backwards by turns: a machine that becomes busy slows all sizes down
    and not one.
    """
    seconds: dict[int, list[float]] = {size: [] for size in turns}
    for number in range(rounds):
        for size in list(turns) if number % 2 == 0 else list(turns)[::-1]:
            seconds[size].append(turns[size]())
    return [choose(found) for found in seconds.values()]

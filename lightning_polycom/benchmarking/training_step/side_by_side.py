"""Contenders in turns: on a CPU round by round, on a GPU, whose memory they cannot share, one after the other."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from lightning_polycom.benchmarking.training_step.contenders import Case
from lightning_polycom.benchmarking.training_step.meter import Turn
from lightning_polycom.benchmarking.training_step.processes import Contender

WARM_UP = 2  # turns that do not count, beside the first step, which compiles


class Ratio(NamedTuple):
    """A median with its quartiles."""

    median: float
    low: float
    high: float


class Measured:
    """The turns of contenders that did the same number of steps in the same rounds."""

    def __init__(self, cases: dict[str, Case]):
        self.cases = cases
        self.turns: dict[str, list[Turn]] = {name: [] for name in cases}
        self.first_losses: dict[str, float | None] = {}

    def tokens_per_second(self, name: str) -> tuple[float, float]:
        """Of the median turn and of the best."""
        seconds = [turn.seconds / turn.steps for turn in self.turns[name]]
        tokens = self.cases[name].training_shape.tokens
        return tokens / median(seconds), tokens / min(seconds)

    def time_ratio(self, name: str, to: str, clock: str = "seconds") -> Ratio:
        """Time of a contender's turns over that of the turns of `to` in the same rounds; `clock` is a field of Turn."""
        pairs = zip(self.turns[name], self.turns[to], strict=True)
        return _ratio([getattr(own, clock) / getattr(other, clock) for own, other in pairs])

    def extra_milliseconds(self, name: str, over: str, clock: str = "seconds") -> Ratio:
        """What a step of a contender takes beyond one of `over` in the same round."""
        pairs = zip(self.turns[name], self.turns[over], strict=True)
        return _ratio([(getattr(own, clock) - getattr(other, clock)) / own.steps * 1000 for own, other in pairs])

    def peak_bytes(self, name: str) -> int:
        """The most memory beyond the weights."""
        return max(turn.peak_bytes for turn in self.turns[name])

    def record(self) -> dict:
        """Every number as plain types, for JSON."""
        rows = {}
        for name, case in self.cases.items():
            typical, best = self.tokens_per_second(name)
            rows[name] = {
                "case": vars(case),
                "tokens_per_second": typical,
                "best_tokens_per_second": best,
                "peak_bytes": self.peak_bytes(name),
                "first_loss": self.first_losses[name],
                "turns": [vars(turn) for turn in self.turns[name]],
            }
        return rows


def measure(cases: dict[str, Case], data: Path, rounds: int, steps: int | None, say: Callable[[str], None]) -> Measured:
    """Starts the contenders, warms them up, and lets each make `steps` steps a round (default the shape's)."""
    found = Measured(cases)
    together = all(case.device == "cpu" for case in cases.values())
    for group in [list(cases)] if together else [[name] for name in cases]:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            contenders = {}
            for name in group:
                own = Path(folder) / name
                own.mkdir()
                contenders[name] = stack.enter_context(Contender(cases[name], data, own))
                found.first_losses[name] = _warm_up(name, contenders[name], cases[name], steps, say)
            for number in range(rounds):
                for name in _order(group, number):
                    found.turns[name].append(contenders[name].train(steps or cases[name].training_shape.steps))
                say(f"  round {number + 1} of {rounds}")
    return found


def _warm_up(
    name: str, contender: Contender, case: Case, steps: int | None, say: Callable[[str], None]
) -> float | None:
    first = contender.train(1)
    for _ in range(WARM_UP):
        contender.train(min(3, steps or case.training_shape.steps))
    say(f"  {name}: first step in {first.seconds:.1f} s")
    return first.loss


def _order(names: list[str], number: int) -> Iterator[str]:
    """Each contender is the first of a round as often as the others, and forwards as often as backwards."""
    start = number // 2 % len(names)
    turned = names[start:] + names[:start]
    return iter(turned if number % 2 == 0 else turned[::-1])


def _ratio(values: list[float]) -> Ratio:
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return Ratio(middle, low, high)

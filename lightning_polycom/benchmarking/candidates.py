"""Which settings of a training step are tried, and which of them is the best."""

from collections.abc import Iterable
from typing import NamedTuple

from lightning_polycom.errors import InputError

GAIN = 1.01  # a larger micro-batch that brings less than this brings nothing
CLOSE = 0.9  # of the fastest's speed: a busy neighbour may have decided between the two
CONTENDERS = 3
PATIENCE = 2  # larger micro-batches that bring nothing before the rest is left out


class Candidate(NamedTuple):
    """One setting of each."""

    precision: str
    compiled: bool
    micro_batch_size: int

    @property
    def options(self) -> list[str]:
        """As options of `polycom fit`."""
        return [
            *("--data.micro_batch_size", str(self.micro_batch_size)),
            *("--trainer.precision", self.precision),
            *("--model.compile", str(self.compiled).lower()),
        ]


class Trial(NamedTuple):
    """What became of a candidate: its speed on one device and its peak memory, or why there is none."""

    candidate: Candidate
    tokens_per_second: float | None = None
    flops_per_second: float | None = None
    peak_memory: int | None = None
    left_out: str | None = None


def micro_batch_sizes(sequences: int, own: int, given: list[int] | None) -> list[int]:
    """Sizes to try, ascending: those given, or divisors of `sequences`, each at least twice the one before, and `own`.

    Args:
        sequences: Of an optimizer step on one device.
        own: The run's, which is left out if it is no divisor.
        given: The user's, if there are any.

    Raises:
        InputError: one of `given` is no divisor.
    """
    for size in given or []:
        if sequences % size:
            raise InputError(
                f"micro_batch_sizes: {size} does not divide the {sequences} sequences of a step on one device; "
                "give divisors, or change data.global_batch_size"
            )
    if given:
        return sorted(set(given))
    found = [1]
    for size in range(2, sequences + 1):
        if sequences % size == 0 and size >= 2 * found[-1]:
            found.append(size)
    return sorted({*found, own} if sequences % own == 0 else found)


def brings_nothing(series: list[Trial]) -> bool:
    """Whether the last trials of growing micro-batches are no faster than the best one before them."""
    speeds = [trial.tokens_per_second or 0.0 for trial in series]
    if len(speeds) <= PATIENCE:
        return False
    return max(speeds[-PATIENCE:]) < GAIN * max(speeds[:-PATIENCE])


def contenders(trials: Iterable[Trial]) -> list[Trial]:
    """The fastest few that are close to each other, fastest first; empty if nobody is close to the fastest."""
    measured = sorted((t for t in trials if t.tokens_per_second), key=lambda t: -t.tokens_per_second)
    close = [trial for trial in measured if trial.tokens_per_second >= CLOSE * measured[0].tokens_per_second]
    return close[:CONTENDERS] if len(close) > 1 else []


def faster(first: Trial, second: Trial) -> Trial:
    """The faster of two trials of one candidate: what is slower only had more neighbours."""
    return max(first, second, key=lambda trial: trial.tokens_per_second or 0.0)


def best(trials: Iterable[Trial]) -> Trial:
    """The fastest.

    Raises:
        InputError: not one could be trained.
    """
    trials = list(trials)
    measured = [trial for trial in trials if trial.tokens_per_second is not None]
    if not measured:
        raise InputError(f"tune: nothing that was tried could be trained: {trials[0].left_out}")
    return max(measured, key=lambda trial: trial.tokens_per_second)

"""What a reader must know before he trusts the numbers."""

from collections import Counter
from collections.abc import Callable
from itertools import chain

from lightning_polycom.comparison.arms import MISMATCHED, Arms
from lightning_polycom.comparison.report.table import si
from lightning_polycom.comparison.results import Result
from lightning_polycom.comparison.runs import PENDING, Run
from lightning_polycom.comparison.sentences import reason
from lightning_polycom.comparison.statistics import mean_and_spread

TOLERANCE = 0.01  # of what is held equal; differences in cost below it are rounding
TIME_TOLERANCE = 0.05  # the speed of a machine varies by more


def warnings_of(arms: Arms, results: list[Result]) -> list[str]:
    """A line for every run that is marked or left out, and for whatever makes the comparison less than fair."""
    runs = list(chain.from_iterable(arms.runs.values()))
    lines = _not_begun(runs)
    lines += [f"{_named(run)}; it is in no mean." for run in runs if not run.is_usable and run.status != PENDING]
    in_means = [run for result in results for run in result.runs]
    lines += [f"{run.path} is in the means, but {', '.join(run.marks)}." for run in in_means if run.marks]
    lines += _second_choices(results)
    if any(run.status == MISMATCHED for run in runs):
        lines.append("Mismatched runs saw other batches than the baseline's run of their seed; train them again.")
    if len({run.seed for run in runs}) == 1:
        lines.append("There is one seed: no difference can be told from the noise between seeds.")
    return [*lines, *_tuning(arms), *_unequal(arms, results), *_origin(in_means)]


def _named(run: Run) -> str:
    verb = "has" if run.status == "failed" else "is"
    return f"{run.path} {verb} {reason(run)}"


def _not_begun(runs: list[Run]) -> list[str]:
    """One line for all runs that are still to come: in a comparison under way there are many."""
    waiting = [run for run in runs if run.status == PENDING]
    if not waiting:
        return []
    counts = Counter(run.arm for run in waiting)
    arms = ", ".join(f"{arm} {count}" for arm, count in counts.items())
    return [f"{len(waiting)} of {len(runs)} runs have not begun ({arms}): what is said here may still change."]


def _second_choices(results: list[Result]) -> list[str]:
    """Arms of which another learning rate is lower, in fewer seeds."""
    lines = []
    for result in results:
        chosen = result.runs[0].learning_rate if result.runs else None
        means = {rate: mean for rate, (mean, _) in result.rates.items() if rate is not None}
        lower = min(means, key=means.get, default=None)
        if chosen in means and lower != chosen:
            count, most = result.rates[lower][1], result.rates[chosen][1]
            lines.append(
                f"{result.name} is compared at learning rate {chosen:g}; at {lower:g} its mean loss is lower, but over "
                f"{count} usable seeds instead of {most}."
            )
    return lines


def _tuning(arms: Arms) -> list[str]:
    counts = {name: len({run.learning_rate for run in runs}) for name, runs in arms.runs.items()}
    if len(set(counts.values())) == 1:
        return []
    tried = ", ".join(f"{name} {count}" for name, count in counts.items())
    return [f"The arms were not tuned alike; numbers of learning rates tried: {tried}."]


def _unequal(arms: Arms, results: list[Result]) -> list[str]:
    """A line for every arm that has not as much as the baseline of what is said to be held equal."""
    kinds: dict[str, tuple[str, Callable[[Result], float | None], float]] = {
        "parameters": ("parameters", _parameters, TOLERANCE),
        "flops": ("training FLOPs", lambda result: _mean_end(result, "flops"), TOLERANCE),
        "time": ("seconds of training", lambda result: _mean_end(result, "seconds"), TIME_TOLERANCE),
    }
    what, of, tolerance = kinds[arms.equal]
    amounts = [(result.name, of(result)) for result in results]
    (baseline, there), *others = amounts
    return [
        f"{name} has {si(here)} {what}, {baseline} {si(there)}: they are not equal."
        for name, here in others
        if here and there and abs(here / there - 1) > tolerance
    ]


def _parameters(result: Result) -> float | None:
    return result.runs[0].facts.num_parameters if result.runs else None


def _mean_end(result: Result, axis: str) -> float | None:
    ends = [curve.end(axis) for curve in result.curves]
    return mean_and_spread(ends)[0] if ends and None not in ends else None


def _origin(runs: list[Run]) -> list[str]:
    lines = []
    if len({run.facts.device for run in runs}) > 1:
        lines.append("The runs were made on different machines; times are compared only where a pair's agree.")
    unknown = sorted({run.arm for run in runs if run.facts.data is None})
    if unknown:
        lines.append(f"Of {', '.join(unknown)} it is not stated on which data it was trained.")
    return lines

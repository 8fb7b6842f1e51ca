"""Runs as arms that may be compared: what does not belong together is refused or marked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_polycom.comparison.curves import TRAINING, VALIDATION, Curve
from lightning_polycom.comparison.runs import Run
from lightning_polycom.errors import InputError

EQUAL = ("parameters", "flops", "time")
DIVERGED, MISMATCHED = "diverged", "mismatched"


@dataclass(frozen=True)
class Arms:
    """The runs of every arm, checked.

    Args:
        baseline: The arm that the others are compared with.
        equal: What is held equal: `parameters` (and then tokens), `flops` or `time`.
        measure: The loss that decides: `val/loss`, or `train/loss` where a run has no validation.
        runs: All runs by arm, the baseline's first, in the order they were named.
    """

    baseline: str
    equal: str
    measure: str
    runs: dict[str, list[Run]]

    def usable(self, arm: str) -> list[Run]:
        """The arm's runs that may enter means."""
        return [run for run in self.runs[arm] if run.is_usable]


def check_arms(runs: Sequence[Run], baseline: str | None, equal: str, seeds: Sequence[int] | None = None) -> Arms:
    """Arms from runs; only those of `seeds` if they are given. Without a `baseline` it is the first run's arm.

    Finished runs whose loss is not finite are marked as diverged, and runs that saw other batches than the baseline's
    run of their seed as mismatched: neither enters a mean.

    Raises:
        InputError: an unknown baseline, seed or `equal`; a single arm; a missing seed; two runs of one arm, seed and
            learning rate; no finished run; or runs with other data, validation text or numbers of tokens.
    """
    if equal not in EQUAL:
        raise InputError(f"equal: found {equal!r}; it is one of {', '.join(EQUAL)}")
    runs = _of_seeds(runs, seeds)
    names = list(dict.fromkeys(run.arm for run in runs))
    baseline = names[0] if baseline is None else baseline
    if baseline not in names:
        raise InputError(f"baseline: {baseline!r} is not among the arms ({', '.join(names)}); name one of them")
    if len(names) == 1:
        raise InputError(f"runs: all are of one arm, {baseline}; give runs of another too, or name arms with ARM=PATH")
    _require_seeds(runs, names, baseline)
    _require_one_each(runs)
    _require_finished(runs, baseline)
    _require_same(runs, "data", lambda run: run.facts.data, "compare runs on the same text")
    advice = "compare runs with the same data.max_validation_tokens"
    _require_same(runs, "validation tokens", lambda run: run.facts.validation_tokens, advice)
    measure = _measure(runs)
    runs = _mark(runs, baseline, measure)
    _require_finished(runs, baseline)
    if equal == "parameters":
        advice = "train them for as many, or say what else is held equal with --equal flops or --equal time"
        _require_same(runs, "training tokens", lambda run: run.tokens, advice)
    names = [baseline, *(name for name in names if name != baseline)]
    return Arms(baseline, equal, measure, {name: [run for run in runs if run.arm == name] for name in names})


def _of_seeds(runs: Sequence[Run], seeds: Sequence[int] | None) -> list[Run]:
    if seeds is None:
        return list(runs)
    missing = sorted(set(seeds) - {run.seed for run in runs})
    if missing:
        raise InputError(f"seeds: no run has seed {missing[0]}; the runs have {_listed({run.seed for run in runs})}")
    return [run for run in runs if run.seed in seeds]


def _require_seeds(runs: Sequence[Run], names: Sequence[str], baseline: str) -> None:
    by_arm = {name: {run.seed for run in runs if run.arm == name} for name in names}
    for name in names:
        for one, other in ((name, baseline), (baseline, name)):
            missing = sorted(by_arm[other] - by_arm[one])
            if missing:
                common = _listed(set.intersection(*by_arm.values()))
                remedy = f"or compare only what all have with --seeds {common}" if common else "seeds make the pairs"
                raise InputError(f"seeds: {one} has no run of seed {missing[0]}, which {other} has; add it, {remedy}")


def _listed(seeds: set[int]) -> str:
    return "[" + ",".join(map(str, sorted(seeds))) + "]" if seeds else ""


def _require_one_each(runs: Sequence[Run]) -> None:
    seen: dict[tuple, Run] = {}
    for run in (run for run in runs if run.is_usable):
        key = (run.arm, run.seed, run.learning_rate)
        if key in seen:
            raise InputError(
                f"runs: {seen[key].path} and {run.path} are both arm {run.arm}, seed {run.seed}; give one of them, "
                "or name the arms with ARM=PATH"
            )
        seen[key] = run


def _require_finished(runs: Sequence[Run], baseline: str) -> None:
    if not any(run.is_usable for run in runs):
        states = ", ".join(sorted({run.status for run in runs}))
        raise InputError(f"runs: none of {len(runs)} is finished ({states}); finish them, or wait for them")
    of_baseline = [run for run in runs if run.arm == baseline]
    if not any(run.is_usable for run in of_baseline):
        states = ", ".join(sorted({run.status for run in of_baseline}))
        raise InputError(f"baseline: no run of {baseline} is finished ({states}); choose another with --baseline NAME")


def _require_same(runs: Sequence[Run], what: str, of: Callable[[Run], Any], advice: str) -> None:
    known = [(run, of(run)) for run in runs if run.is_usable and of(run) is not None]
    for run, value in known[1:]:
        if value != known[0][1]:
            (first, there), here = known[0], value
            found = f"{first.path} has {_short(there)}, {run.path} has {_short(here)}"
            raise InputError(f"{what}: {found}; {advice}")


def _short(value: Any) -> str:
    if isinstance(value, str):
        return value if len(value) < 40 else f"{value[:12]}..."  # a fingerprint
    return f"{value:,.0f}"


def _measure(runs: Sequence[Run]) -> str:
    usable = [run for run in runs if run.is_usable]
    missing = {m: [run for run in usable if m not in run.series] for m in (VALIDATION, TRAINING)}
    measure = next((measure for measure, without in missing.items() if not without), None)
    if measure is None:
        lacking = ", ".join(f"{without[0].path} has no {measure}" for measure, without in missing.items())
        raise InputError(f"runs: {lacking}; all need the same loss, so log one of the two in each")
    if measure == VALIDATION:
        advice = "compare runs validated on the same text"
        _require_same(runs, "validation domains", lambda run: ", ".join(domains_of(run.series)) or None, advice)
    return measure


def domains_of(tags: Any) -> list[str]:
    """Names of the validation domains among tags `val/<domain>/loss`."""
    return sorted(tag[4:-5] for tag in tags if tag.startswith("val/") and tag.endswith("/loss") and tag != VALIDATION)


def _mark(runs: Sequence[Run], baseline: str, measure: str) -> list[Run]:
    marked = []
    for run in runs:
        if run.resumed:
            run = run.marked("resumed")
        if run.facts.data_changes:
            run = run.marked("data changed while it was trained", MISMATCHED if run.is_usable else None)
        if run.is_usable and Curve(run, measure).final is None:
            run = run.marked("the loss is not finite at the end", DIVERGED)
        if run.is_usable and (reason := _other_batches(run, runs, baseline)):
            run = run.marked(reason, MISMATCHED)
        marked.append(run)
    return marked


def _other_batches(run: Run, runs: Sequence[Run], baseline: str) -> str | None:
    """How the batches of a run differ from those of the baseline's run of the same seed; None if they do not."""
    for other in (other for other in runs if other.arm == baseline and other.seed == run.seed and other.is_usable):
        if run.facts.batches and other.facts.batches and run.facts.batches != other.facts.batches:
            return f"batches other than those of {other.path} (order seed, tokens per step or sequence length)"
        ours, theirs = run.facts.token_stream, other.facts.token_stream
        differing = sorted((step for step in set(ours) & set(theirs) if ours[step] != theirs[step]), key=int)
        if differing:
            return f"other tokens than {other.path} (at step {differing[0]} at the latest)"
    return None

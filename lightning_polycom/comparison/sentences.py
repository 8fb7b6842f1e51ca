"""What a result means, in one plain sentence per arm."""

import math
from typing import Literal

from lightning_polycom.comparison.results import Result
from lightning_polycom.comparison.runs import PENDING, Run
from lightning_polycom.comparison.statistics import Difference

SIGNIFICANT = 0.05
Verdict = Literal["better", "worse", "open"]


def verdict(result: Result) -> Verdict:
    """`better` or `worse` than the baseline in its final loss if that is established, else `open`."""
    if result.p_value is None or result.p_value >= SIGNIFICANT:
        return "open"
    return "better" if result.difference.mean < 0 else "worse"


def sentence(result: Result, baseline: Result, measure: str, arms: int) -> str:
    """How an arm compares with the baseline: loss, speed, loss at equal time, and runs that are left out.

    The arm's name is to stand before it.
    `arms` is the number of arms that are compared with the baseline, for which p values are corrected.
    """
    kind = "validation" if measure == "val/loss" else "training"
    if result.difference is None:
        return f"no pair of finished runs with {baseline.name}; nothing can be said.{_left_out(result)}"
    parts = [_loss(result, kind, arms), _reach(result, baseline), _speed(result.slowdown), _equal_time(result)]
    return f"{'; '.join(part for part in parts if part)}.{_left_out(result)}"


def p_text(p_value: float) -> str:
    """A p value as it is written: p = 0.004, or p < 0.001."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}" if p_value < 0.1 else f"p = {p_value:.2f}"


def _loss(result: Result, kind: str, arms: int) -> str:
    difference, count = result.difference, len(result.difference.values)
    size, side = f"{abs(difference.mean):.4f}", "better" if difference.mean < 0 else "worse"
    if count == 1:
        lower = "lower" if difference.mean < 0 else "higher"
        return f"{kind} loss {lower} by {size} nats in the one seed there is, which cannot tell a difference from noise"
    if difference.half_width is None:
        return f"{kind} loss {size} nats {side} in each of {count} seeds alike, so there is no spread to judge it by"
    interval, over = f"{size} ± {difference.half_width:.4f} nats", f"over {count} seeds"
    if result.p_value < SIGNIFICANT:
        return f"{side} by {interval} {over}, {p_text(result.p_value)}"
    if difference.excludes_zero:
        corrected = p_text(result.p_value).removeprefix("p = ")
        raised = f"{p_text(difference.p_value)}, but {corrected} corrected for {arms} arms"
        return f"{side} by {interval} {over}, {raised}: not established{_pooled(result)}"
    return f"no difference found: {interval} {side} {over}, {p_text(result.p_value)}{_pooled(result)}"


def _pooled(result: Result) -> str:
    if result.p_pooled is None or result.p_pooled >= SIGNIFICANT:
        return ""
    return f" ({p_text(result.p_pooled)} if all arms are taken to be equally noisy)"


def _speed(slowdown: Difference | None) -> str:
    if slowdown is None:
        return "speeds not comparable"
    percent = math.exp(slowdown.mean) - 1
    text = f"{abs(percent):.0%} {'slower' if percent > 0 else 'faster'} per token"
    if abs(percent) < 0.005:
        text = "as fast per token"
    if slowdown.half_width is None:
        return text + (" in this one run" if len(slowdown.values) == 1 else "")
    if not slowdown.excludes_zero:
        low, high = (math.expm1(slowdown.mean + sign * slowdown.half_width) for sign in (-1, 1))
        return f"no difference in speed found ({text}; 95% interval from {_percent(low)} to {_percent(high)})"
    return text


def _percent(share: float) -> str:
    """A share of more seconds per token than the baseline: 4% faster, 12% slower, 0%."""
    amount = f"{abs(share):.0%}"
    return amount if amount == "0%" else f"{amount} {'slower' if share > 0 else 'faster'}"


def _equal_time(result: Result) -> str:
    difference, p_value = result.at_equal.get("seconds"), result.p_at_equal.get("seconds")
    if difference is None:
        return ""
    size, side = f"{abs(difference.mean):.4f}", "better" if difference.mean < 0 else "worse"
    if difference.half_width is None:
        return f"at equal time {size} nats {side}"
    if p_value < SIGNIFICANT:
        return f"at equal time {side} by {size} ± {difference.half_width:.4f} nats, {p_text(p_value)}"
    return f"no difference found at equal time ({size} ± {difference.half_width:.4f} nats {side})"


def _reach(result: Result, baseline: Result) -> str:
    reach = result.reach["tokens"]
    if not reach.count:
        return ""
    if reach.ratio is None:
        seeds = f" in {reach.count - reach.reached} of {reach.count} seeds" if reach.reached else ""
        return f"does not come down to {baseline.name}'s final loss{seeds}"
    share = abs(1 - reach.ratio)
    amount = "as many" if share < 0.005 else f"{share:.0%} {'fewer' if reach.ratio < 1 else 'more'}"
    return f"comes down to {baseline.name}'s final loss with {amount} tokens"


def _left_out(result: Result) -> str:
    if not result.left_out:
        return ""
    begun = [run for run in result.left_out if run.status != PENDING]
    parts = [f"{_which(run, result)} ({reason(run)})" for run in begun]
    waiting = len(result.left_out) - len(begun)
    if waiting:
        parts.append(f"{waiting} {'run' if waiting == 1 else 'runs'} not begun")
    return f" Left out: {', '.join(parts)}."


def _which(run: Run, result: Result) -> str:
    """A run by its seed, and by its learning rate where the arm has several."""
    rates = {other.learning_rate for other in [*result.runs, *result.left_out, run]} | set(result.rates)
    return f"seed {run.seed}" + (f" at learning rate {run.learning_rate:g}" if len(rates - {None}) > 1 else "")


def reason(run: Run) -> str:
    """Why a run is in no mean, or the marks of one that is; empty if there is nothing to say."""
    status = [] if run.is_usable else [{"running": "unfinished", PENDING: "not begun"}.get(run.status, run.status)]
    return ": ".join([*status, ", ".join(run.marks)] if run.marks else status)

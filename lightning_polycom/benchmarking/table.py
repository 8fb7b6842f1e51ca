"""The lines that a benchmark prints, each as soon as it is measured."""

from lightning_polycom.benchmarking.goals import Goal
from lightning_polycom.benchmarking.measurement import Group, Measurement, Skipped
from lightning_polycom.benchmarking.options import WAYS

NAMES = f"  {'activation':<13} {'way':<30}"
UNSETTLED = "*"
UNSETTLED_NOTE = f"{UNSETTLED} no repetition was free of page faults: the allocator is in this number"


def heading(group: Group) -> list[str]:
    """What was measured, its yardstick, and the columns' names."""
    case = f"{group.dtype}, {group.rows} x {group.width}"
    yardstick = f"{group.yardstick.both * 1e3:.3f} ms, {group.bandwidth / 1e9:,.1f} GB/s"
    if group.device == "cuda":
        columns = f"{'forward':>11}{'backward':>11}{'both':>11}   {'share of the copy':<20}"
        return ["", f"{case}: a copy takes {yardstick}", f"{NAMES}{columns}".rstrip()]
    mark = "" if group.yardstick.settled else UNSETTLED
    floor = f"{case}: the floor, a copy plus a two-input add, takes {yardstick}{mark}"
    return ["", floor, f"{NAMES}{'both':>11}{'/ floor':>10}"]


def row(group: Group, found: Measurement) -> str:
    """Times in ms, and on a CPU the ratio to the floor, on a GPU the shares forward and backward."""
    start, times = _names(found), found.times
    shares = group.shares(found)
    if shares is None:
        mark = "" if times.settled else UNSETTLED
        return f"{start}{times.both * 1e3:>8.2f} ms{group.to_floor(found):>10.2f}{mark}"
    spans = "".join(f"{seconds * 1e3:>8.3f} ms" for seconds in (times.forward, times.backward, times.both))
    return f"{start}{spans}   {shares[0]:>4.0%} and {shares[1]:.0%}"


def skipped_row(skipped: Skipped) -> str:
    """The way, and why it was left out."""
    return f"{_names(skipped)}   left out: {skipped.reason}"


def goal_lines(found: list[Goal]) -> list[str]:
    """The project's goals and whether they are met; none if nothing measured decides one."""
    if not found:
        return []
    lines = ["", "The project's goals"]
    for goal in found:
        bound = "at least" if goal.at_least else "at most"
        verdict = "met" if goal.met else "NOT met"
        lines.append(f"  {verdict:<8}{goal.case}: {goal.what}: {goal.found:.2f} ({bound} {goal.limit:.2f})")
    return lines


def _names(line: Measurement | Skipped) -> str:
    return f"  {line.name:<13} {WAYS[line.way]:<30}"

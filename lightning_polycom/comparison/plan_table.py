"""The plan of a comparison as it is printed."""

from rich.console import Console
from rich.table import Table

from lightning_polycom.comparison.config import ComparisonConfig
from lightning_polycom.comparison.plan import ArmPlan, arm_called, own_schedule
from lightning_polycom.comparison.step_time import Estimate

WIDTH = 160  # where the output is no terminal


def print_plan(
    console: Console, config: ComparisonConfig, arms: list[ArmPlan], estimates: dict[str, Estimate | None]
) -> None:
    """Prints a row for each arm, and what the table does not say."""
    wide = console if console.is_terminal else Console(file=console.file, width=WIDTH)
    wide.print(_table(config, arms, estimates), highlight=False)
    for line in _notes(config, arms, estimates):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _table(config: ComparisonConfig, arms: list[ArmPlan], estimates: dict[str, Estimate | None]) -> Table:
    held = {"parameters": "parameters and tokens", "flops": "training FLOPs", "time": "training time"}[config.equal]
    title = f"{config.name}: equal {held} within {config.tolerance:.2%} of {config.baseline}"
    table = Table("arm", title=title, title_justify="left")
    sparse = any(arm.decoder.mixture_of_experts is not None for arm in arms)
    columns = [
        "width",
        "parameters",
        *(["active"] if sparse else []),
        "FLOPs/token",
        "steps",
        "tokens",
        "FLOPs",
        "time",
    ]
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for arm in arms:
        config_ = arm.decoder
        active = [f"{config_.num_active_parameters:,}"] if sparse else []
        length = [f"{arm.steps:,}", f"{arm.tokens:,}", f"{arm.flops:.3e}"] if arm.steps else ["after timing"] * 3
        guess = estimates.get(arm.name)
        time = "not known" if guess is None or not arm.steps else duration(guess.seconds)
        width = f"{config_.feed_forward_size:,}"
        cells = [width, f"{config_.num_parameters:,}", *active, f"{arm.flops_per_token:,}", *length, time]
        table.add_row(arm.name, *cells)
    return table


def _notes(config: ComparisonConfig, arms: list[ArmPlan], estimates: dict[str, Estimate | None]) -> list[str]:
    rates = len(config.learning_rates or [None])
    count = f"{len(arms)} arms x {len(config.seeds)} seeds" + (f" x {rates} learning rates" if rates > 1 else "")
    runs = len(arms) * len(config.seeds) * rates
    known = [guess for arm in arms if (guess := estimates.get(arm.name)) is not None and arm.steps]
    if len(known) == len(arms):
        total = sum(guess.seconds for guess in known) * len(config.seeds) * rates
        sources = " and ".join(sorted({guess.source for guess in known}))
        spent = f"; about {duration(total)} of training one after the other, by {sources}, validation not counted"
    else:
        spent = "; the time is known when each arm has a finished run"
    lines = [f"{count} = {runs} runs{spent}"]
    baseline = arm_called(arms, config.baseline)
    for arm in arms:
        if not arm.starts_like(baseline):
            lines.append(
                f"{arm.name}: other parameters outside the feed-forwards than {baseline.name}, so another start"
            )
        keys = own_schedule(config, arm.name)
        if keys:
            lines.append(f"{arm.name}: a schedule of its own ({', '.join(keys)})")
    return lines


def duration(seconds: float) -> str:
    """Seconds for a reader: 45 s, 12 min, 3.4 h, 2.1 d."""
    for limit, unit, size in ((90, "s", 1), (90 * 60, "min", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}" if size == 3600 else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.1f} d"

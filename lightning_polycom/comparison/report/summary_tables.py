"""Tables of losses, differences, costs and runs."""

import math
from collections.abc import Sequence

from lightning_polycom.comparison.arms import Arms, domains_of
from lightning_polycom.comparison.curves import AXES
from lightning_polycom.comparison.report.table import Cell, Measured, Table
from lightning_polycom.comparison.results import Result, paired_by_tag
from lightning_polycom.comparison.runs import Run
from lightning_polycom.comparison.sentences import reason
from lightning_polycom.comparison.statistics import CONFIDENCE, Difference, mean_and_spread

INTERVAL = f"half width of the {CONFIDENCE:.0%} interval"


def over_seeds(values: Sequence[float | None], decimals: int = 3, **style: str) -> Cell:
    """Mean and standard deviation of the values there are."""
    known = [value for value in values if value is not None]
    return Measured(*mean_and_spread(known), decimals, **style) if known else None


def difference_cell(difference: Difference | None, decimals: int = 4) -> Cell:
    """Mean and half width of the interval."""
    if difference is None:
        return None
    return Measured(difference.mean, difference.half_width, decimals, style="signed")


def p_cell(p_value: float | None) -> Cell:
    """A p value."""
    return None if p_value is None else Measured(p_value, style="p")


def difference_table(results: list[Result], measure: str) -> Table:
    """Final loss, its difference to the baseline at the end and at equal tokens, FLOPs and time, with p values."""
    names = {"tokens": "tokens", "flops": "FLOPs", "seconds": "time"}
    others = [a for a in AXES if any(r.at_equal.get(a) and r.at_equal[a] != r.difference for r in results)]
    header = ["arm", "final loss", "difference", "p, corrected", "p", "p, pooled", "seeds", "best loss"]
    rows = []
    for result in results:
        difference = result.difference
        row = [result.name, over_seeds(result.final(), 4), difference_cell(difference), p_cell(result.p_value)]
        row += [
            p_cell(difference and difference.p_value),
            p_cell(result.p_pooled),
            Measured(len(result.runs), decimals=0),
        ]
        row += [over_seeds([curve.best for curve in result.curves], 4)]
        rows.append([*row, *(difference_cell(result.at_equal.get(axis)) for axis in others)])
    header += [f"at equal {names[axis]}" for axis in others]
    notes = (
        f"Loss: {measure}, nats per token; ± after a loss is the standard deviation over seeds. "
        f"Difference: arm minus {results[0].name}, paired by seed (negative is better); ± is the {INTERVAL}.",
    )
    return Table("differences", f"Loss, and difference to {results[0].name}", header, rows, notes)


def domain_table(results: list[Result]) -> Table | None:
    """Final and best loss, perplexity and bits per byte of every validation domain; None without validation."""
    domains = sorted({domain for result in results for run in result.runs for domain in domains_of(run.series)})
    header, rows = ["domain", "arm", "final loss", "best loss", "perplexity", "bits per byte", "difference"], []
    for domain in domains:
        tag = f"val/{domain}/loss"
        for result in results:
            losses = [run.last(tag) for run in result.runs]
            perplexities = [None if loss is None else math.exp(loss) for loss in losses]
            best = [_lowest(run, tag) for run in result.runs]
            bits = [run.last(f"val/{domain}/bits_per_byte") for run in result.runs]
            row = [domain, result.name, over_seeds(losses, 4), over_seeds(best, 4), over_seeds(perplexities, 2)]
            rows.append([*row, over_seeds(bits, 4), difference_cell(paired_by_tag(result, results[0], tag))])
    note = f"± is the standard deviation over seeds; in the last column (arm minus {results[0].name}) the {INTERVAL}."
    return Table("domains", "Held-out text by domain", header, rows, (note,)) if rows else None


def _lowest(run: Run, tag: str) -> float | None:
    series = run.series.get(tag)
    finite = [] if series is None else [value for value in series.values.tolist() if math.isfinite(value)]
    return min(finite, default=None)


def cost_table(results: list[Result]) -> Table:
    """Parameters, FLOPs, speed, memory and energy of every arm."""
    energy = any("energy/joules" in run.series for result in results for run in result.runs)
    rows = []
    firsts = [result.runs[0] if result.runs else None for result in results]
    sparse = any(f and f.facts.num_active_parameters not in (None, f.facts.num_parameters) for f in firsts)
    for result, first in zip(results, firsts, strict=True):
        counts = [_fact(first, name) for name in ("num_parameters", "num_active_parameters", "flops_per_token")]
        counts = counts if sparse else [counts[0], counts[2]]
        speeds = [_speed(curve.end("tokens"), curve.end("seconds")) for curve in result.curves]
        memory = [_highest(run, "memory/peak_gib") for run in result.runs]
        totals = [over_seeds([curve.end(axis) for curve in result.curves], style="si") for axis in AXES]
        row = [result.name, over_seeds(speeds, 0), _percent(result.slowdown), over_seeds(memory, 2)]
        rows.append([*row, *counts, *totals, *([_energy(result)] if energy else [])])
    notes = (
        "Tokens per second and seconds are of training steps alone, without validation, evaluation and checkpoints. "
        f"Slower by: seconds per token against {results[0].name}, paired by seed; ± is the {INTERVAL} "
        "(of the logarithm, hence not quite symmetric). Memory: the highest that was logged.",
        *(["Energy is that of the GPUs, or of the CPU packages, over the same steps."] if energy else []),
    )
    header = ["arm", "tokens/s", "slower by", "peak memory (GiB)", "parameters", *["active parameters"] * sparse]
    header += ["FLOPs per token", "tokens", "FLOPs", "seconds", *["energy (kJ)"] * energy]
    return Table("costs", "What it costs", header, rows, notes)


def _fact(run: Run | None, name: str) -> Cell:
    value = None if run is None else getattr(run.facts, name)
    return None if value is None else Measured(value, style="si")


def _speed(tokens: float | None, seconds: float | None) -> float | None:
    return tokens / seconds if tokens and seconds else None


def _highest(run: Run, tag: str) -> float | None:
    series = run.series.get(tag)
    return None if series is None else float(series.values.max())


def _percent(slowdown: Difference | None) -> Cell:
    if slowdown is None:
        return None
    mean, half = slowdown.mean, slowdown.half_width
    spread = None if half is None else 100 * (math.exp(mean + half) - math.exp(mean - half)) / 2
    return Measured(100 * math.expm1(mean), spread, 1, "percent")


def _energy(result: Result) -> Cell:
    joules = [run.last("energy/joules") for run in result.runs]
    return over_seeds([None if value is None else value / 1000 for value in joules], 1)


def reach_table(results: list[Result]) -> Table:
    """Tokens, FLOPs and seconds that every arm takes to the baseline's final loss."""
    header = ["arm", *(text for unit in ("tokens", "FLOPs", "seconds") for text in (unit, f"{unit} (%)"))]
    rows = [[result.name, *(cell for axis in AXES for cell in _reach_cells(result, axis))] for result in results]
    notes = (
        f"What a run takes until it is down at the final loss of {results[0].name}'s run of the same seed, and that in "
        "% of what that run took in all; means over seeds. Curves are linear between logged points. An arm gets there "
        "with its learning rate still high, the baseline with it decayed, so the shares are rather too high than too "
        "low.",
    )
    return Table("reach", f"To the final loss of {results[0].name}", header, rows, notes)


def _reach_cells(result: Result, axis: str) -> list[Cell]:
    if result.difference is None and not result.reach:
        end = over_seeds([curve.end(axis) for curve in result.curves], style="si")
        return [end, None if end is None else Measured(100, decimals=0)]
    reach = result.reach[axis]
    if not reach.count:
        return [None, None]
    if reach.place is None:
        return [f"not reached in {reach.count - reach.reached} of {reach.count}", None]
    return [Measured(reach.place, style="si"), Measured(100 * reach.ratio, decimals=0)]


def rate_table(results: list[Result]) -> Table | None:
    """Mean final loss by learning rate; None where no arm has several."""
    if all(len(result.rates) < 2 for result in results):
        return None
    rates = sorted({rate for result in results for rate in result.rates if rate is not None})
    rows = [[result.name, *(_rate_cell(result, rate) for rate in rates)] for result in results]
    note = (
        "Mean final loss in nats per token, and in brackets over how many seeds. Compared is the rate with the lowest "
        "loss among those of an arm that have most usable seeds."
    )
    return Table("learning_rates", "Learning rates", ["arm", *(f"{rate:g}" for rate in rates)], rows, (note,))


def _rate_cell(result: Result, rate: float) -> Cell:
    if rate not in result.rates:
        return None
    mean, count = result.rates[rate]
    chosen = any(run.learning_rate == rate for run in result.runs)
    return f"{mean:.4f} ({count}){' chosen' if chosen else ''}"


def run_table(arms: Arms, results: list[Result]) -> Table:
    """Every run: what became of it."""
    header, rows = ["run", "arm", "seed", "learning rate", "state", "tokens", "final loss", "machine", "commit"], []
    in_means = {run for result in results for run in result.runs}
    for run in (run for runs in arms.runs.values() for run in runs):
        state = reason(run) or ("in the means" if run in in_means else "another learning rate was chosen")
        if run.is_usable and run.marks:
            state += "; " + ("in the means" if run in in_means else "not in the means")
        loss, tokens = run.last(arms.measure), run.tokens if run.series else None
        rate = None if run.learning_rate is None else f"{run.learning_rate:g}"
        row = [run.path, run.arm, str(run.seed), rate, state, None if tokens is None else Measured(tokens, style="si")]
        row += [None if loss is None else Measured(loss, decimals=4), run.facts.device]
        rows.append([*row, (run.facts.git_commit or "")[:12]])
    return _same_in_a_note(Table("runs", "Runs", header, rows), ("machine", "commit"))


def _same_in_a_note(table: Table, names: Sequence[str]) -> Table:
    """The table with a note in place of each of these columns in which all rows that say anything say the same."""
    notes, dropped = [], []
    for column, name in enumerate(table.header):
        values = {row[column] for row in table.rows if row[column]}
        if name in names and len(values) == 1:
            notes.append(f"{name.capitalize()} of all: {values.pop()}.")
            dropped.append(column)
    kept = [column for column in range(len(table.header)) if column not in dropped]
    rows = [[row[column] for column in kept] for row in table.rows]
    return Table(
        table.name, table.title, [table.header[column] for column in kept], rows, (" ".join(notes),) * bool(notes)
    )

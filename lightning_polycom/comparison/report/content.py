"""Everything that a report says, before it is given a form."""

from typing import NamedTuple

from lightning_polycom.comparison.arms import Arms
from lightning_polycom.comparison.curves import VALIDATION
from lightning_polycom.comparison.report import curve_figures, layer_figures, summary_tables
from lightning_polycom.comparison.report.figures import Picture
from lightning_polycom.comparison.report.layer_tables import layer_tables
from lightning_polycom.comparison.report.table import Table
from lightning_polycom.comparison.report.task_table import task_table
from lightning_polycom.comparison.report.warnings import warnings_of
from lightning_polycom.comparison.results import Result, results_of
from lightning_polycom.comparison.sentences import Verdict, sentence, verdict

HELD_EQUAL = {"parameters": "parameters and tokens", "flops": "training FLOPs", "time": "training time"}
METHOD = (
    "Runs are paired: an arm's run and the baseline's run of the same seed saw the same batches, and what they have in "
    "common cancels in their difference.",
    "Intervals hold 95% of the time. Up to nine seeds they are Student's t intervals of the paired differences, exact "
    "for normal differences down to two seeds, where they are wide; from ten seeds on they are bootstrap-t intervals "
    "(9,999 resamples). One seed has no interval.",
    "p values are two-sided and belong to the intervals. Over the arms they are corrected by Holm's method: if no arm "
    "differs, the chance that any is called different stays below 5%. A difference is called established below 0.05 "
    "after that correction. Intervals are not corrected.",
    "p, pooled: the same with the noise estimated from all arms together (two-way analysis of variance, corrected by "
    "Holm's method). It finds more with few seeds, if all arms are equally noisy; it decides nothing here.",
    "At equal tokens, FLOPs or time: both curves are read at the end of the shorter one, linear between logged points. "
    "An arm whose learning-rate schedule has not ended there is at a disadvantage; runs that were planned for equal "
    "time or FLOPs have no such disadvantage.",
    "Training losses are smoothed: each point is the mean over the twentieth of the run before it.",
)
BANDS = (
    "Lines are means over seeds, bands reach from the lowest to the highest seed. The y axes are fitted to what comes "
    "after the first tenth of training, so that lines may begin above them."
)


class Section(NamedTuple):
    """A part of the page: its title, a line below it, tables and pictures."""

    title: str
    text: str
    tables: list[Table]
    pictures: list[Picture]


class Report(NamedTuple):
    """A report.

    Attributes:
        title: Above it.
        lead: What the sentences are about.
        facts: What was compared, by name.
        sentences: Verdict, name and sentence of every arm other than the baseline.
        warnings: What a reader must know before he trusts the numbers.
        sections: The rest, in order.
        method: How the numbers came about.
    """

    title: str
    lead: str
    facts: dict[str, str]
    sentences: list[tuple[Verdict, str, str]]
    warnings: list[str]
    sections: list[Section]
    method: tuple[str, ...]


def report_of(arms: Arms, name: str | None) -> Report:
    """The report on checked runs; `name` is the comparison's, if it has one."""
    results = results_of(arms)
    others = results[1:]
    sentences = [(verdict(r), r.name, sentence(r, results[0], arms.measure, len(others))) for r in others]
    title = name or f"{', '.join(r.name for r in others) or 'no other arm'} against {arms.baseline}"
    sections = [*_result_sections(arms, results), *_layer_sections(results), _runs_section(arms, results)]
    return Report(
        title, _lead(arms, len(others)), _facts(arms, results), sentences, warnings_of(arms, results), sections, METHOD
    )


def _lead(arms: Arms, others: int) -> str:
    kind = "validation" if arms.measure == VALIDATION else "training"
    corrected = f"; p values are corrected for {others} arms" if others > 1 else ""
    return (
        f"Final {kind} loss in nats per token (lower is better) against {arms.baseline}, with equal "
        f"{HELD_EQUAL[arms.equal]}, paired by seed. ± is half of the 95% interval{corrected}."
    )


def pictures_of(report: Report) -> list[Picture]:
    """All figures."""
    return [picture for section in report.sections for picture in section.pictures]


def tables_of(report: Report) -> list[Table]:
    """All tables."""
    return [table for section in report.sections for table in section.tables]


def _facts(arms: Arms, results: list[Result]) -> dict[str, str]:
    runs = [run for of_arm in arms.runs.values() for run in of_arm]
    seeds = sorted({run.seed for run in runs})
    return {
        "baseline": arms.baseline,
        "arms": ", ".join(arms.runs),
        "seeds": ", ".join(map(str, seeds)),
        "held equal": HELD_EQUAL[arms.equal],
        "decided by": arms.measure,
        "runs": f"{len(runs)}, {sum(run.is_usable for run in runs)} of them usable",
    }


def _result_sections(arms: Arms, results: list[Result]) -> list[Section]:
    interval = curve_figures.interval_picture(results)
    differences = summary_tables.difference_table(results, arms.measure)
    rates = summary_tables.rate_table(results)
    curves = curve_figures.curve_pictures(results, arms.measure)
    curves += curve_figures.difference_curves(results, arms.measure)
    reach = summary_tables.reach_table(results)
    sections = [
        Section("Differences", "", [differences, *([rates] if rates else [])], [interval] if interval else []),
        Section("Curves", BANDS, [], curves),
        Section("Cost", "", [summary_tables.cost_table(results), reach], []),
    ]
    domains, tasks = summary_tables.domain_table(results), task_table(results)
    none = "No run logs losses by domain."
    sections.insert(1, Section("Held-out text", "" if domains else none, [domains] if domains else [], []))
    none = "No run has scores of downstream tasks; polycom evaluate adds them."
    sections.insert(2, Section("Downstream tasks", "" if tasks else none, [tasks] if tasks else [], []))
    return sections


def _layer_sections(results: list[Result]) -> list[Section]:
    absent = "No run has been analysed for this; polycom analyze RUN adds it."
    tables = {table.name: table for table in layer_tables(results)}
    parts = (
        (layer_figures.COEFFICIENTS, "coefficients", layer_figures.coefficient_pictures, "No arm learns coefficients."),
        (layer_figures.RANK, "effective_rank", layer_figures.rank_pictures, absent),
        (layer_figures.SIMILARITY, None, layer_figures.similarity_pictures, absent),
        (layer_figures.STATISTICS, "activation_statistics", layer_figures.statistics_pictures, absent),
    )
    sections = []
    for title, table, draw, none in parts:
        pictures, found = draw(results), [tables[table]] if table in tables else []
        sections.append(Section(title, "" if pictures or found else none, found, pictures))
    return sections


def _runs_section(arms: Arms, results: list[Result]) -> Section:
    return Section("Runs", "", [summary_tables.run_table(arms, results)], [])

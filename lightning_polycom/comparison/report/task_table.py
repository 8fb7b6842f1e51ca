"""Scores of downstream tasks."""

from lightning_polycom.comparison.report.summary_tables import INTERVAL, difference_cell, over_seeds, p_cell
from lightning_polycom.comparison.report.table import Cell, Measured, Table
from lightning_polycom.comparison.results import Result, paired_by_tag
from lightning_polycom.comparison.runs import Run
from lightning_polycom.comparison.statistics import holm

AVERAGE = "eval/average"


def task_table(results: list[Result]) -> Table | None:
    """One row per task, metric and arm: score, its standard error, chance, difference; None without scores."""
    header = ["task", "metric", "arm", "score", "standard error", "chance", "difference", "p, corrected"]
    tags = score_tags([run for result in results for run in result.runs])
    entries = [(tag, arm, paired_by_tag(arm, results[0], tag)) for tag in tags for arm in results]
    corrected = holm([None if difference is None else difference.p_value for _, _, difference in entries])
    rows = []
    for (tag, result, difference), p_value in zip(entries, corrected, strict=True):
        task, metric = ("average", "of the runs") if tag == AVERAGE else tag.removeprefix("eval/").rsplit("/", 1)
        scores = over_seeds([run.last(tag) for run in result.runs], 4)
        row = [task, metric, result.name, scores, _standard_error(result, tag)]
        row += [_chance(result, task) if metric.startswith("acc") else None, difference_cell(difference)]
        rows.append([*row, p_cell(p_value)])
    notes = (
        "Score: the last one of each run; ± is the standard deviation over seeds. Standard error: of one run's score, "
        f"from lm-eval, over the questions. Difference: arm minus {results[0].name}, paired by seed; "
        f"± is the {INTERVAL}. "
        "Higher accuracies and lower bits per byte are better. The average is the one that the runs logged: of the "
        "metrics that they name, or else of accuracies, normalized by length where there are such. p values are "
        "corrected for all rows. An accuracy near chance says little, whatever its difference.",
    )
    return Table("tasks", "Scores of downstream tasks", header, rows, notes) if rows else None


def score_tags(runs: list[Run]) -> list[str]:
    """Tags of the scores, the average last; a rolling perplexity only as bits per byte, of which it is another form."""
    tags = {tag for run in runs for tag in run.series if tag.startswith("eval/")}
    hidden = ("_stderr", "_perplexity", "/chance")
    return [*sorted(tag for tag in tags if not tag.endswith(hidden) and tag != AVERAGE), *({AVERAGE} & tags)]


def _standard_error(result: Result, tag: str) -> Cell:
    errors = [run.last(f"{tag}_stderr") for run in result.runs]
    known = [error for error in errors if error is not None]
    return Measured(sum(known) / len(known), decimals=4) if known else None


def _chance(result: Result, task: str) -> Cell:
    levels = [run.last(f"eval/{task}/chance") for run in result.runs]
    return next((Measured(level) for level in levels if level is not None), None)

"""`polycom report`: whether an activation is better, by how much, at what cost, and whether it is real."""

import sys
from dataclasses import dataclass
from pathlib import Path

from lightning_polycom.commands.parsing import OneLineParser


@dataclass
class ReportOptions:
    """What is compared with what, and where the report goes.

    Args:
        output: Folder for report.html, report.md, tables and figures; default report/, in a comparison's folder if that
            is what is reported on.
        baseline: The arm that the others are compared with; default the comparison's own, or the first run's.
        equal: What the runs hold equal: parameters (with tokens), flops or time; default the comparison's own, or
            parameters.
        seeds: Only runs of these seeds, such as [1,2,3]; default all.
    """

    output: str | None = None
    baseline: str | None = None
    equal: str | None = None
    seeds: list[int] | None = None


def main() -> None:
    """Parses the options, writes the report, prints the sentence of every arm and the path of the page."""
    parser = OneLineParser(
        prog="polycom report",
        description="Compare finished runs: one HTML page, and the same as Markdown, LaTeX, CSV, PNG and SVG.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        help="A comparison's folder; or runs: their folders, runs/NAME for all its versions, or .csv and .jsonl files "
        "of other code. ARM=PATH names the arm; else it is the run's name without its seed.",
    )
    parser.add_class_arguments(ReportOptions, as_group=False)
    values = parser.parse_args(sys.argv[2:]).as_dict()
    for line in report_runs(values.pop("runs"), ReportOptions(**values)):
        print(line)


def report_runs(paths: list[str], options: ReportOptions) -> list[str]:
    """Writes the report on the runs that `paths` mean; gives a line per arm, then warnings and the page's path.

    Raises:
        InputError: runs that cannot be compared, as `check_arms` has it, or an output folder with other files in it.
    """
    from lightning_polycom.comparison.arms import check_arms
    from lightning_polycom.comparison.comparison_file import is_comparison
    from lightning_polycom.comparison.gathering import gather
    from lightning_polycom.comparison.report.content import report_of
    from lightning_polycom.comparison.report.write import refuse_other_folder, write_report

    home = Path(paths[0]) if len(paths) == 1 and is_comparison(Path(paths[0])) else Path()
    folder = Path(options.output) if options.output else home / "report"
    refuse_other_folder(folder)
    gathered = gather(paths)
    equal = options.equal or gathered.equal or "parameters"
    arms = check_arms(gathered.runs, options.baseline or gathered.baseline, equal, options.seeds)
    report = report_of(arms, gathered.name)
    page = write_report(report, folder)
    lines = [f"{name}: {sentence}" for _, name, sentence in report.sentences]
    return [*lines, *(f"note: {warning}" for warning in report.warnings), f"The report is {page}"]

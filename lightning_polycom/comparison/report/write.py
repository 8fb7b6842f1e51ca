"""A report as a folder: the page, the same in Markdown, tables and figures."""

import shutil
from pathlib import Path

from lightning_polycom.atomic import write_text
from lightning_polycom.comparison.report.content import Report, pictures_of, tables_of
from lightning_polycom.comparison.report.figures import draw_svg, write_png
from lightning_polycom.comparison.report.latex import to_latex
from lightning_polycom.comparison.report.page import to_html
from lightning_polycom.comparison.report.table import escape, to_csv, to_markdown
from lightning_polycom.errors import InputError

PAGE, TEXT = "report.html", "report.md"
FORMS = {"md": to_markdown, "tex": to_latex, "csv": to_csv}


def write_report(report: Report, folder: Path) -> Path:
    """Writes report.html, report.md, tables/ and figures/ to `folder`; gives the path of the page.

    An earlier report in the folder is replaced, with the tables and figures that are no longer in it.

    Raises:
        InputError: the folder holds something else.
    """
    refuse_other_folder(folder)
    drawn = {picture.name: draw_svg(picture) for picture in pictures_of(report)}
    page = to_html(report, drawn)
    for name in ("tables", "figures"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for table in tables_of(report):
        for suffix, form in FORMS.items():
            write_text(folder / "tables" / f"{table.name}.{suffix}", form(table))
    for picture in pictures_of(report):
        write_png(picture, folder / "figures" / f"{picture.name}.png")
        write_text(folder / "figures" / f"{picture.name}.svg", drawn[picture.name])
    write_text(folder / TEXT, _markdown(report))
    write_text(folder / PAGE, page)
    return folder / PAGE


def refuse_other_folder(folder: Path) -> None:
    """Raises InputError for a folder with files that are no report's: the tables of a report would replace them."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / PAGE).is_file():
        raise InputError(f"output: {folder} is not empty and holds no report; name a new folder")


def _markdown(report: Report) -> str:
    lines = [f"# {escape(report.title)}", "", *([escape(report.lead), ""] if report.lead else [])]
    lines += [f"- **{escape(name)}** ({verdict}): {escape(sentence)}" for verdict, name, sentence in report.sentences]
    if report.warnings:
        lines += ["", "Before you trust this:", "", *(f"- {escape(warning)}" for warning in report.warnings)]
    lines += ["", *(f"- {name}: {escape(value)}" for name, value in report.facts.items())]
    for section in report.sections:
        lines += ["", f"## {section.title}", ""]
        lines += [escape(section.text), ""] if section.text else []
        for picture in section.pictures:
            lines += [f"![{escape(picture.caption)}](figures/{picture.name}.png)", ""]
        lines += [to_markdown(table) for table in section.tables]
    return "\n".join([*lines, "", "## Method", "", *(f"- {escape(line)}" for line in report.method)]) + "\n"

"""The report as one HTML file that needs nothing else."""

from importlib import resources

from lightning_polycom import __version__
from lightning_polycom.comparison.report.content import Report
from lightning_polycom.comparison.report.figures import for_page
from lightning_polycom.comparison.report.table import Cell, Measured, Table, text


def to_html(report: Report, drawn: dict[str, str]) -> str:
    """The page, with the SVG files that were `drawn` in it by name, in the reader's colours; all text is escaped."""
    import jinja2
    from markupsafe import Markup

    def shown(cell: Cell) -> Markup:
        value, sign, spread = text(cell).partition(" ±")
        if not (isinstance(cell, Measured) and sign):
            return Markup("{}").format(text(cell))
        return Markup('{} <span class="spread">±{}</span>').format(value, spread)

    files = resources.files(__package__)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["shown"] = shown
    environment.filters["full"] = Table.without_empty_columns
    template = environment.from_string(files.joinpath("page.html").read_text(encoding="utf-8"))
    css = Markup(files.joinpath("page.css").read_text(encoding="utf-8").strip())
    svg = {name: for_page(file, name) for name, file in drawn.items()}
    return template.render(report=report, css=css, svg=svg, version=__version__) + "\n"

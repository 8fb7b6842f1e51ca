"""How figures look, and how they are kept: as PNG, as SVG, and inside the page in the reader's colours."""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_polycom.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# On white, and in the same order on black in page.css. Any two of them are told apart also by eyes that lack the cones
# for red or green (a test has the distance); marks and dashes differ besides.
COLORS = ("#464e56", "#1f5aec", "#9f8e1e", "#00915d", "#5d0091", "#5f0e0d", "#017398", "#818733", "#e336d0")
LINES = ("-", (0, (6, 1.5)), (0, (2.5, 1)), (0, (6, 1.5, 1.5, 1.5)), (0, (1, 1)))
MARKS = "osD^vPX<>"
MARKED = 12  # points of a line, from which on they get no marks
FOREGROUND, FAINT, BACKGROUND = "#101316", "#c9ced4", "#ffffff"
SIZE = (4.4, 3.3)  # inches: text stays readable on a phone, where a figure is as wide as the screen
DPI = 160
FONTS = {
    "font.size": 10,
    "font.family": "sans-serif",
    "text.parse_math": False,  # a $ in a name is a $
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "polycom",  # the same figure, the same bytes
    "text.color": FOREGROUND,
    "axes.labelcolor": FOREGROUND,
    "axes.edgecolor": FOREGROUND,
    "xtick.color": FOREGROUND,
    "ytick.color": FOREGROUND,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "axes.prop_cycle": "cycler('color', ['#0b62a8'])",
}


@dataclass(frozen=True)
class Picture:
    """A figure with what is said of it.

    Args:
        name: Of its files, without suffix.
        section: Of the page.
        caption: What it shows.
        figure: The figure.
    """

    name: str
    section: str
    caption: str
    figure: "Figure"


def line_style(index: int) -> dict[str, Any]:
    """Colour and dashes of the arm with this index, the same in all figures; the baseline, 0, is grey and solid."""
    if index == 0:
        return {"color": COLORS[0], "linestyle": "-"}
    return {"color": COLORS[1 + (index - 1) % (len(COLORS) - 1)], "linestyle": LINES[index % len(LINES)]}


def mark_style(index: int, points: int) -> dict[str, Any]:
    """The marks on an arm's line of so many points, where these are few enough to be told from each other."""
    return {"marker": MARKS[index % len(MARKS)] if points <= MARKED else None, "markersize": 4}


def new_axes(height: float = SIZE[1], width: float = SIZE[0]) -> tuple["Figure", "Axes"]:
    """An empty figure with one pair of axes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    with rc_context(FONTS):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
    axes.grid(color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    return figure, axes


def add_legend(figure: "Figure", axes: "Axes") -> None:
    """A legend below the axes, of what is labelled."""
    from matplotlib import rc_context

    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    columns = 3 if max(map(len, labels)) < 14 else 2 if max(map(len, labels)) < 24 else 1
    with rc_context(FONTS):
        figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)), handlelength=1.8)


def si_axis(axes: "Axes") -> None:
    """Writes large numbers along x as 200M."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5))
    if axes.dataLim.x1 >= 1000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def draw_svg(picture: Picture) -> str:
    """The figure as an SVG file, on white; the same figure gives the same text."""
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context(FONTS):
        picture.figure.savefig(out, format="svg", facecolor=BACKGROUND, metadata={"Date": None})
    picture.figure.set_layout_engine("none")  # what is laid out stays so: laying out is what takes time
    return out.getvalue()


def write_png(picture: Picture, path: Path) -> None:
    """The figure as a PNG file, on white."""
    from matplotlib import rc_context

    with rc_context(FONTS), atomic_path(path) as temporary:
        picture.figure.savefig(temporary, format="png", dpi=DPI, facecolor=BACKGROUND)


def for_page(svg: str, name: str) -> str:
    """An <svg> element from an SVG file: without background, coloured by CSS, with ids that begin with `name`.

    To a screen reader it is an image with the text of the element `name`-caption.
    """
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    head, body = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)
    body = body.replace(BACKGROUND, "none").replace(FOREGROUND, "currentColor").replace(FAINT, "var(--faint)")
    for index, color in enumerate(COLORS):
        body = body.replace(color, f"var(--arm-{index})")
    return f'{head} role="img" aria-labelledby="{name}-caption">{body.strip()}'

"""How figures look, and how they are kept: as PNG, as SVG, and inside the page in the reader's colours."""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_polycom.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# On white, and in the same order on black (page.css has both): dark enough for the one, light enough for the other.
COLORS = ("#5a6472", "#0b62a8", "#c2570c", "#1b7f3b", "#8a3fb8", "#c0263d", "#0b7f86", "#7a5230", "#b0307f")
LINES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1.5, 1.5, 1.5)))
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


def line_style(index: int) -> dict[str, object]:
    """Colour and dashes of the arm with this index; the baseline, 0, is grey."""
    round_, color = divmod(index - 1, len(COLORS) - 1)
    if index == 0:
        return {"color": COLORS[0], "linestyle": "-"}
    return {"color": COLORS[1 + color], "linestyle": LINES[round_ % len(LINES)]}


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
    """An <svg> element from an SVG file: without background, coloured by CSS, with ids that begin with `name`."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    head, body = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)
    body = body.replace(BACKGROUND, "none").replace(FOREGROUND, "currentColor").replace(FAINT, "var(--faint)")
    for index, color in enumerate(COLORS):
        body = body.replace(color, f"var(--arm-{index})")
    return f'{head} aria-hidden="true">{body.strip()}'

"""Costs that grow, as a picture."""

from pathlib import Path

from lightning_polycom.atomic import atomic_path
from lightning_polycom.benchmarking.growth.growth import Growth

COLUMNS, PANEL, DPI = 4, 3.2, 150  # panels of a row; inches of one


def write_figure(growths: list[Growth], path: Path) -> None:
    """Writes a PNG file with a log-log panel for each axis: measured times, and dashed what its work makes expected."""
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    columns = min(COLUMNS, len(growths))
    rows = -(-len(growths) // columns)
    figure = Figure(figsize=(PANEL * columns, PANEL * rows), dpi=DPI, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for growth, panel in zip(growths, panels, strict=False):
        panel.plot(
            growth.sizes, growth.expected_seconds, "--", color="0.5", label=f"{growth.expected_slope:.2f} expected"
        )
        panel.plot(growth.sizes, growth.seconds, "o-", label=f"{growth.measured_slope:.2f} measured")
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set(title=growth.axis.replace("_", " "), ylabel="seconds")
        panel.legend(title="slope", fontsize="x-small", title_fontsize="x-small")
    for panel in panels[len(growths) :]:
        panel.set_axis_off()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")

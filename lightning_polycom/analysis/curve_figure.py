"""Curves of activations as a picture."""

from pathlib import Path

from lightning_polycom.analysis.activation_curve import Curve
from lightning_polycom.atomic import atomic_path


def draw_curves(curves: dict[str, Curve], title: str, path: Path) -> None:
    """Writes a PNG with the values on the left and the derivatives on the right, one line per labelled curve."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = dict(zip(("y", "derivative"), figure.subplots(1, 2), strict=True))
    for index, (label, curve) in enumerate(curves.items()):
        color = colormaps["viridis"](index / max(1, len(curves) - 1) * 0.9)
        for quantity, ax in axes.items():
            ax.plot(curve.x, getattr(curve, quantity), label=label, color=color, linewidth=1.2)
    for quantity, ax in axes.items():
        ax.axhline(0, color="0.7", linewidth=0.6, zorder=0)
        ax.axvline(0, color="0.7", linewidth=0.6, zorder=0)
        ax.set(xlabel="input x", title={"y": "value", "derivative": "derivative"}[quantity])
    if len(curves) > 1:
        axes["derivative"].legend(fontsize="x-small", ncols=1 + len(curves) // 13)
    figure.suptitle(title)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)

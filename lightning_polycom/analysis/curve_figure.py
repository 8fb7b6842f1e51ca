"""Curves of activations as a picture, in a file and for TensorBoard."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_polycom.analysis.activation_curve import Curve
from lightning_polycom.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150


def draw_curves(curves: dict[str, Curve], title: str) -> "Figure":
    """A figure with the values on the left and the derivatives on the right, one line per labelled curve."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    figure = Figure(figsize=(10, 4), dpi=DPI, layout="constrained")
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
    return figure


def write_picture(figure: "Figure", path: Path) -> None:
    """Writes the figure as a PNG file."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def write_event(figure: "Figure", folder: Path, tag: str, step: int) -> None:
    """Adds the figure as a TensorBoard image at `step` to `folder`, in an event file of its own."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch.utils.tensorboard import FileWriter

    png = io.BytesIO()
    figure.savefig(png, format="png")
    width, height = (round(inches * DPI) for inches in figure.get_size_inches())
    image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png.getvalue())  # 4: RGBA
    folder.mkdir(parents=True, exist_ok=True)  # TensorBoard's own error for a folder that cannot be made is obscure
    writer = FileWriter(str(folder))
    writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)
    writer.close()

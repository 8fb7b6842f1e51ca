"""Values of every expert in every layer as a heat map."""

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 100


def draw_experts(values: Tensor, title: str, label: str, center: float | None = None) -> "Figure":
    """A heat map of `values` (layers, num_experts); with a `center` the colours are white there."""
    from matplotlib.colors import CenteredNorm
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    layers, experts = values.shape
    figure = Figure(figsize=(min(12, 3 + 0.16 * experts), min(8, 1.6 + 0.25 * layers)), dpi=DPI, layout="constrained")
    ax = figure.subplots()
    colors = {"cmap": "viridis"} if center is None else {"cmap": "RdBu_r", "norm": CenteredNorm(center)}
    image = ax.imshow(values.cpu().numpy(), aspect="auto", interpolation="nearest", **colors)
    figure.colorbar(image, label=label)
    ax.set(xlabel="expert", ylabel="layer", title=title)
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)
    return figure

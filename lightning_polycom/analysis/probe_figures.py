"""What an analysis found as pictures."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lightning_polycom.analysis.expert_figure import draw_experts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 100
COLORS = {"up": "tab:blue", "gate": "tab:orange", "down": "tab:green", "input": "tab:purple", "output": "tab:red"}
BANDS = (("0.001", "0.999"), ("0.01", "0.99"), ("0.05", "0.95"), ("0.25", "0.75"))  # from light to dark


def draw_analysis(found: dict[str, Any], title: str) -> dict[str, "Figure"]:
    """Every picture that there are numbers for, by name, from what `probe` returns; `title` goes before each."""
    figures = {"effective_rank": _ranks(found, title)}
    for name, values in found.get("effective_rank_per_expert", {}).items():
        figures[f"effective_rank_{name}"] = draw_experts(
            torch.tensor(values), f"{title}\n{name} of each expert", "effective rank"
        )
    if any(found["coefficients"]):
        figures["coefficients"] = _coefficients(found["coefficients"], title)
    if "layer_similarity" in found:
        figures["layer_similarity"] = _similarity(found["layer_similarity"], title)
    if "activation_statistics" in found:
        figures["activation_statistics"] = _statistics(found["activation_statistics"], title)
    return figures


def _new_figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def _lines(ax: "Axes", lines: dict[str, list[float]], **labels: str) -> None:
    """One line over the layers for each name."""
    for name, values in lines.items():
        layers = range(len(values))
        dashed = "--" if name.startswith("shared_") else "-"
        ax.plot(layers, values, dashed, marker="o", markersize=3, color=_color(name), label=name)
    ax.set(xlabel="layer", **labels)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.3)
    if len(lines) > 1:
        ax.legend(fontsize="small")


def _color(name: str) -> str | None:
    return COLORS.get(name.removeprefix("shared_").split(",")[0])


def _ranks(found: dict[str, Any], title: str) -> "Figure":
    figure = _new_figure(7, 4)
    ax, ranks = figure.subplots(), found["effective_rank"]
    _lines(ax, ranks, ylabel="effective rank", title=f"{title}: effective rank of the feed-forward")
    for name, spread in found.get("effective_rank_spread", {}).items():
        mean, layers = np.array(ranks[name]), range(len(spread))
        ax.fill_between(layers, mean - spread, mean + spread, color=_color(name), alpha=0.15, linewidth=0)
    return figure


def _coefficients(coefficients: list[dict[str, float]], title: str) -> "Figure":
    figure = _new_figure(7, 4)
    lines = {name: [layer[name] for layer in coefficients] for name in coefficients[0]}
    ax = figure.subplots()
    _lines(ax, lines, ylabel="value", title=f"{title}: learned coefficients")
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    return figure


def _similarity(similarity: list[list[float]], title: str) -> "Figure":
    states = len(similarity)
    side = min(8, 3.2 + 0.2 * states)
    figure = _new_figure(side + 0.8, side)
    ax = figure.subplots()
    values = np.array(similarity)
    image = ax.imshow(values, vmin=min(0.0, values.min()), vmax=1, cmap="viridis", origin="lower")
    figure.colorbar(image, label="cosine similarity, mean over tokens")
    ax.set(xlabel="after layer (0: embedding)", ylabel="after layer (0: embedding)")
    ax.set_title(f"{title}: hidden states", fontsize="medium")
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)
    if states <= 12:
        for row in range(states):
            for column in range(states):
                color = "white" if similarity[row][column] < 0.6 else "black"
                number = f"{similarity[row][column]:.2f}"
                ax.text(column, row, number, ha="center", va="center", color=color, fontsize=6)
    return figure


def _statistics(statistics: list[dict[str, Any]], title: str) -> "Figure":
    figure = _new_figure(11, 7)
    above, below = figure.subfigures(2, 1)
    places = [place for place in ("input", "up", "output") if place in statistics[0]]
    for ax, place in zip(above.subplots(1, len(places), squeeze=False)[0], places, strict=True):
        _quantiles(ax, [layer[place] for layer in statistics], place)
    zero, kurtosis, headroom = below.subplots(1, 3)
    for ax, key in ((zero, "zero_fraction"), (kurtosis, "kurtosis")):
        lines = {place: [layer[place][key] for layer in statistics] for place in places}
        _lines(ax, lines, title=key.replace("_", " "))
    zero.set_ylim(0, 1)
    kurtosis.set_yscale("log")
    powers = {place: statistics[0][place]["power"] for place in places}
    lines = {
        f"{place}, power {powers[place]}": [layer[place]["overflow_headroom_bits"]["float16"] for layer in statistics]
        for place in places
    }
    _lines(headroom, lines, title="bits to the overflow of fp16")
    headroom.axhline(0, color="0.4", linewidth=0.8)
    figure.suptitle(f"{title}: activations")
    return figure


def _quantiles(ax: "Axes", layers: list[dict[str, Any]], place: str) -> None:
    """Nested bars from one quantile to another for each layer, with the median as a dash."""
    from matplotlib.ticker import MaxNLocator

    numbers = range(len(layers))
    quantiles = [layer["quantiles"] for layer in layers]
    for (low, high), alpha in zip(BANDS, (0.15, 0.25, 0.4, 0.7), strict=True):
        bottoms = [q[low] for q in quantiles]
        heights = [q[high] - q[low] for q in quantiles]
        label = f"{100 * float(low):g} to {100 * float(high):g}%"
        ax.bar(numbers, heights, 0.7, bottoms, color=COLORS[place], alpha=alpha, linewidth=0, label=label)
    ax.scatter(numbers, [q["0.5"] for q in quantiles], marker="_", color="black", s=60, label="median")
    ax.set(xlabel="layer", title=f"{place}: quantiles")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3, axis="y")
    ax.use_sticky_edges = False  # leaves a margin below the bars, which do not start at 0
    ax.margins(y=0.05)
    ax.legend(fontsize="x-small")

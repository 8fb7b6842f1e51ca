"""Coefficients over training, and numbers of every layer."""

import re

import numpy as np

from lightning_polycom.comparison.curves import AXES
from lightning_polycom.comparison.report.figures import (
    FOREGROUND,
    Picture,
    add_legend,
    line_style,
    mark_style,
    new_axes,
    si_axis,
)
from lightning_polycom.comparison.report.layers import (
    Layers,
    coefficient_layers,
    coefficient_names,
    effective_ranks,
    per_layer,
    statistics,
)
from lightning_polycom.comparison.results import Result
from lightning_polycom.comparison.runs import Run

COEFFICIENTS, RANK = "Coefficients", "Effective rank"
SIMILARITY, STATISTICS = "Layer similarity", "Activation statistics"
DEPTH = ("#2b7bd0", "#9a5fc0", "#d9532f")  # from the first layer to the last; seen on white and on black
SHOWN = {
    "zero_fraction": "fraction of zeros",
    "kurtosis": "kurtosis (normal: 3)",
    "overflow_headroom_bits/float16": "overflow headroom, fp16 (bits)",
    "overflow_headroom_bits/bfloat16": "overflow headroom, bf16 (bits)",
}
PLACES = {"input": "input of the activation", "output": "output of the activation", "up": "gated arms' factor W_up x"}
POINTS = 300


def slug(text: str) -> str:
    """A text in a file's name or an id."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-") or "arm"


def coefficient_pictures(results: list[Result]) -> list[Picture]:
    """For every arm and coefficient a line per layer over tokens, mean over seeds."""
    return [
        _coefficient_picture(index, result, name)
        for index, result in enumerate(results)
        for name in sorted({name for run in result.runs for name in coefficient_names(run)})
    ]


def _coefficient_picture(index: int, result: Result, name: str) -> Picture:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    runs = [run for run in result.runs if name in coefficient_names(run)]
    colors = LinearSegmentedColormap.from_list("depth", DEPTH)
    figure, axes = new_axes()
    layers = len(coefficient_layers(runs[0], name))
    for layer, tag in enumerate(coefficient_layers(runs[0], name)):
        x, y = _mean_over_seeds([run for run in runs if tag in run.series], tag)
        axes.plot(x, y, color=colors(layer / max(1, layers - 1)), linewidth=1.3)
    norm = Normalize(0, max(1, layers - 1))
    bar = figure.colorbar(ScalarMappable(norm, colors), ax=axes, label="layer", pad=0.02)
    bar.locator.set_params(integer=True)
    _color_bar_text(bar)
    title = name.replace("coefficient_", "coefficient of power ")
    axes.set(xlabel=AXES["tokens"], ylabel=title)
    si_axis(axes)
    caption = f"{result.name}: {title} of every layer{_over_seeds(len(runs))}."
    return Picture(f"coefficients-{index}-{slug(result.name)}-{slug(name)}", COEFFICIENTS, caption, figure)


def _over_seeds(count: int) -> str:
    return f", mean over {count} seeds" if count > 1 else ""


def _color_bar_text(bar: object) -> None:
    """The bar is made outside `new_axes`, whose colours it takes on here."""
    bar.outline.set_edgecolor(FOREGROUND)
    bar.ax.tick_params(colors=FOREGROUND)
    bar.ax.yaxis.label.set_color(FOREGROUND)


def _mean_over_seeds(runs: list[Run], tag: str) -> tuple[np.ndarray, np.ndarray]:
    steps = runs[0].series[tag].steps
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, min(POINTS, len(steps))).astype(int))]
    values = [np.interp(steps, run.series[tag].steps, run.series[tag].values) for run in runs]
    return runs[0].tokens_at(steps), np.mean(values, axis=0)


def rank_pictures(results: list[Result]) -> list[Picture]:
    """For every matrix of the feed-forward a line per arm over layers."""
    entries = per_layer(results, effective_ranks)
    matrices = dict.fromkeys(entry.quantity for entry in entries)
    return [
        _layer_picture(f"effective-rank-{slug(matrix)}", RANK, f"effective rank of W_{matrix}", results,
                       [entry for entry in entries if entry.quantity == matrix])
        for matrix in matrices
    ]  # fmt: skip


def statistics_pictures(results: list[Result]) -> list[Picture]:
    """Zero fraction, kurtosis and overflow headroom of every arm over layers, and every arm's quantiles."""
    entries = per_layer(results, statistics)
    pictures = []
    for name in dict.fromkeys(entry.quantity for entry in entries):
        place, _, quantity = name.partition("/")
        if quantity in SHOWN:
            of_name, where = [entry for entry in entries if entry.quantity == name], _of_place(place)
            pictures.append(
                _layer_picture(f"statistics-{slug(name)}", STATISTICS, SHOWN[quantity], results, of_name, where)
            )
    for index, result in enumerate(results):
        quantiles = [entry for entry in entries if entry.arm == index and "quantiles/" in entry.quantity]
        for place in dict.fromkeys(entry.quantity.split("quantiles/")[0] for entry in quantiles):
            of_place = [entry for entry in quantiles if entry.quantity.startswith(f"{place}quantiles/")]
            pictures.append(_quantile_picture(index, result, place.strip("/"), of_place))
    return pictures


def _of_place(place: str) -> str:
    return f" of the {PLACES.get(place, place)}" if place else ""


def _layer_picture(
    name: str, section: str, label: str, results: list[Result], entries: list[Layers], of: str = ""
) -> Picture:
    figure, axes = new_axes()
    for entry in entries:
        style, layers = line_style(entry.arm), np.arange(len(entry.mean))
        marks = mark_style(entry.arm, len(layers))
        axes.plot(layers, entry.mean, label=results[entry.arm].name, linewidth=1.4, **style, **marks)
        if entry.spread is not None:
            low, high = entry.mean - entry.spread, entry.mean + entry.spread
            axes.fill_between(layers, low, high, color=style["color"], alpha=0.2, linewidth=0)
    axes.set(xlabel="layer", ylabel=label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    add_legend(figure, axes)
    bands = "; bands are ± the standard deviation over seeds" if any(e.spread is not None for e in entries) else ""
    caption = f"{label[0].upper()}{label[1:]}{of} by layer{bands}."
    return Picture(name, section, caption, figure)


def _quantile_picture(index: int, result: Result, place: str, entries: list[Layers]) -> Picture:
    from matplotlib.colors import LinearSegmentedColormap

    figure, axes = new_axes()
    colors = LinearSegmentedColormap.from_list("depth", DEPTH)
    for order, entry in enumerate(entries):
        color, quantile = colors(order / max(1, len(entries) - 1)), entry.quantity.rsplit("/", 1)[1]
        axes.plot(entry.mean, label=quantile, color=color, linewidth=1.3, marker="o", markersize=3)
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set(xlabel="layer", ylabel=f"quantiles{_of_place(place)}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    add_legend(figure, axes)
    caption = f"{result.name}: quantiles{_of_place(place)} by layer{_over_seeds(entries[0].count)}. The y axis is "
    caption += "linear below 1 in magnitude and logarithmic beyond."
    return Picture(f"quantiles-{index}-{slug(result.name)}-{slug(place)}", STATISTICS, caption, figure)


def similarity_pictures(results: list[Result]) -> list[Picture]:
    """A heat map per arm, in the same colours for all; mean over the seeds that were analysed."""
    maps, counts = {}, {}
    for index, result in enumerate(results):
        analyses = [run.analysis for run in result.runs if run.analysis is not None]
        found = [a.layer_similarity for a in analyses if a.layer_similarity is not None]
        same = [similarity for similarity in found if similarity.shape == found[0].shape]
        if same:
            maps[index], counts[index] = np.mean(same, axis=0), len(same)
    lowest = min((float(np.nanmin(values)) for values in maps.values()), default=0.0)
    return [_similarity_picture(i, results[i], values, lowest, counts[i]) for i, values in maps.items()]


def _similarity_picture(index: int, result: Result, values: np.ndarray, lowest: float, seeds: int) -> Picture:
    figure, axes = new_axes()
    axes.grid(False)
    image = axes.imshow(values, vmin=lowest, vmax=1.0, cmap="viridis", interpolation="nearest", origin="lower")
    _color_bar_text(figure.colorbar(image, ax=axes, label="cosine similarity", pad=0.02))
    axes.set(xlabel="after layer", ylabel="after layer")
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    caption = f"{result.name}: cosine similarity of the hidden states after two layers{_over_seeds(seeds)}; 0 is the "
    caption += "embedding, before the first layer."
    return Picture(f"similarity-{index}-{slug(result.name)}", SIMILARITY, caption, figure)

"""Coefficients over training, and numbers of every layer."""

import re

import numpy as np

from lightning_polycom.comparison.curves import AXES
from lightning_polycom.comparison.report.figures import FOREGROUND, Picture, add_legend, line_style, new_axes, si_axis
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
SHOWN = ("zero_fraction", "kurtosis", "overflow_headroom")
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
    seeds = f", mean over {len(runs)} seeds" if len(runs) > 1 else ""
    caption = f"{result.name}: {title} of every layer{seeds}."
    return Picture(f"coefficients-{index}-{slug(result.name)}-{slug(name)}", COEFFICIENTS, caption, figure)


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
    names = dict.fromkeys(entry.quantity for entry in entries if any(word in entry.quantity for word in SHOWN))
    pictures = [
        _layer_picture(f"statistics-{slug(name)}", STATISTICS, name.replace("/", ", ").replace("_", " "), results,
                       [entry for entry in entries if entry.quantity == name])
        for name in names
    ]  # fmt: skip
    for index, result in enumerate(results):
        quantiles = [entry for entry in entries if entry.arm == index and "quantiles/" in entry.quantity]
        for place in dict.fromkeys(entry.quantity.split("quantiles/")[0] for entry in quantiles):
            of_place = [entry for entry in quantiles if entry.quantity.startswith(f"{place}quantiles/")]
            pictures.append(_quantile_picture(index, result, place.strip("/"), of_place))
    return pictures


def _layer_picture(name: str, section: str, label: str, results: list[Result], entries: list[Layers]) -> Picture:
    figure, axes = new_axes()
    for entry in entries:
        style, layers = line_style(entry.arm), np.arange(len(entry.mean))
        axes.plot(layers, entry.mean, label=results[entry.arm].name, linewidth=1.4, marker="o", markersize=3, **style)
        if entry.spread is not None:
            low, high = entry.mean - entry.spread, entry.mean + entry.spread
            axes.fill_between(layers, low, high, color=style["color"], alpha=0.2, linewidth=0)
    axes.set(xlabel="layer", ylabel=label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    add_legend(figure, axes)
    caption = f"{label[0].upper()}{label[1:]} by layer; bands are ± the standard deviation over seeds."
    return Picture(name, section, caption, figure)


def _quantile_picture(index: int, result: Result, place: str, entries: list[Layers]) -> Picture:
    from matplotlib.colors import LinearSegmentedColormap

    figure, axes = new_axes()
    colors = LinearSegmentedColormap.from_list("depth", DEPTH)
    for order, entry in enumerate(entries):
        color, quantile = colors(order / max(1, len(entries) - 1)), entry.quantity.rsplit("/", 1)[1]
        axes.plot(entry.mean, label=quantile, color=color, linewidth=1.3, marker="o", markersize=3)
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set(xlabel="layer", ylabel=f"quantiles{' of the ' + place if place else ''}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    add_legend(figure, axes)
    caption = f"{result.name}: quantiles{' of the ' + place if place else ''} at the activation by layer."
    return Picture(f"quantiles-{index}-{slug(result.name)}-{slug(place)}", STATISTICS, caption, figure)


def similarity_pictures(results: list[Result]) -> list[Picture]:
    """A heat map per arm, in the same colours for all; mean over the seeds that were analysed."""
    maps = {}
    for index, result in enumerate(results):
        analyses = [run.analysis for run in result.runs if run.analysis is not None]
        found = [a.layer_similarity for a in analyses if a.layer_similarity is not None]
        same = [similarity for similarity in found if similarity.shape == found[0].shape]
        if same:
            maps[index] = np.mean(same, axis=0)
    lowest = min((float(np.nanmin(values)) for values in maps.values()), default=0.0)
    return [_similarity_picture(index, results[index], values, lowest) for index, values in maps.items()]


def _similarity_picture(index: int, result: Result, values: np.ndarray, lowest: float) -> Picture:
    figure, axes = new_axes()
    axes.grid(False)
    image = axes.imshow(values, vmin=lowest, vmax=1.0, cmap="viridis", interpolation="nearest", origin="lower")
    _color_bar_text(figure.colorbar(image, ax=axes, label="cosine similarity", pad=0.02))
    axes.set(xlabel="after layer", ylabel="after layer")
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    caption = f"{result.name}: similarity of the hidden states between layers; 0 is the first, the embedding."
    return Picture(f"similarity-{index}-{slug(result.name)}", SIMILARITY, caption, figure)

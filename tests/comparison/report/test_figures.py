"""Colours that all readers can tell apart, on white and on black."""

import re
from importlib import resources
from itertools import combinations

import numpy as np
import pytest

from lightning_polycom.comparison.report.figures import COLORS, line_style, mark_style

# Machado, Oliveira and Fernandes 2009: what an eye without red or green cones sees, in linear RGB.
EYES = {
    "all cones": np.eye(3),
    "no red": np.array([[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]),
    "no green": np.array([[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]),
}  # fmt: skip
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]])


def linear(color: str) -> np.ndarray:
    values = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    x, y, z = np.cbrt(XYZ @ np.clip(rgb, 0, 1) / (0.95047, 1.0, 1.08883))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(XYZ[1] @ linear(color)) + 0.05 for color in (one, other))
    return high / low


def page_colors() -> list[list[str]]:
    """Those of the arms in the page, in light and in dark."""
    css = resources.files("lightning_polycom.comparison.report").joinpath("page.css").read_text(encoding="utf-8")
    found = re.findall(r"--arm-\d+: (#[0-9a-f]{6})", css)
    return [found[: len(COLORS)], found[len(COLORS) :]]


def test_the_page_has_the_colours_of_the_figures():
    light, dark = page_colors()
    assert light == list(COLORS) and len(dark) == len(light)


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize(("mode", "page"), [(0, "#ffffff"), (1, "#111418")])
def test_colours_of_arms_differ_for_all_eyes(eye, mode, page):
    colors = page_colors()[mode]
    assert min(contrast(color, page) for color in colors) > 3
    seen = [lab(EYES[eye] @ linear(color)) for color in colors]
    distances = {(a, b): np.linalg.norm(seen[a] - seen[b]) for a, b in combinations(range(len(seen)), 2)}
    assert min(distances.values()) > 14
    assert min(distance for pair, distance in distances.items() if max(pair) < 6) > 25, "the first six arms"


def test_arms_differ_in_more_than_colour():
    styles = [(str(line_style(arm)), mark_style(arm, 5)["marker"]) for arm in range(18)]
    assert len(set(styles)) == len(styles)
    assert len({str(line_style(arm)["linestyle"]) for arm in range(5)}) == 5
    assert mark_style(3, 400)["marker"] is None

"""The axes' sizes double, make decoders, and change what they say."""

from dataclasses import replace
from itertools import pairwise

import pytest

from lightning_polycom.benchmarking.growth.growth import slope
from lightning_polycom.benchmarking.growth.shapes import PRESETS, shape_at, step_flops

AXES = ("sequence_length", "width", "depth", "vocabulary", "experts", "corpus", "questions")


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", PRESETS)
def test_sizes_double(name, axis):
    sizes = getattr(PRESETS[name], axis)
    assert len(sizes) == 2 if name == "tiny" else 4 <= len(sizes) <= 6
    assert all(later == 2 * earlier for earlier, later in pairwise(sizes))


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(
    ("axis", "least", "most"),
    [("sequence_length", 1, 2), ("width", 1, 2), ("depth", 0, 1), ("vocabulary", 0, 1), ("experts", 0, 0.2)],
)
def test_the_work_of_a_step_grows_as_the_axis_says(name, axis, least, most):
    sizes = getattr(PRESETS[name], axis)
    work = [step_flops(shape_at(PRESETS[name], axis, size), "polynorm") for size in sizes]
    assert least < slope(sizes, work) < most


def test_one_thing_changes():
    preset = PRESETS["cpu"]
    assert shape_at(preset, "depth", 3) == replace(preset.base, num_layers=3)
    wide = shape_at(preset, "width", 512)
    assert (wide.hidden_size, wide.num_heads, wide.intermediate_size) == (512, 8, 2048)
    sparse = shape_at(preset, "experts", 8)
    assert sparse.mixture.num_experts == 8
    assert (
        sparse.decoder_config("polynorm").num_active_parameters > preset.base.decoder_config("polynorm").num_parameters
    )

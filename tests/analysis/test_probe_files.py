import json
import math
import warnings

import pytest
import torch
from small_decoders import Text, decoder

from lightning_polycom.analysis.probe import analyze_text, analyze_weights
from lightning_polycom.analysis.probe_figures import draw_analysis
from lightning_polycom.analysis.probe_files import analysis_scalars, json_name, write_analysis, write_tables
from lightning_polycom.analysis.probe_windows import ProbeWindows


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("damage", [0.0, math.nan])
def test_a_dead_or_broken_layer_is_written_and_drawn(tmp_path, damage):
    model = decoder("relu")
    with torch.no_grad():
        model.blocks[1].feed_forward.up.weight.fill_(damage)
    found = analyze_weights(model) | analyze_text(model, ProbeWindows({"text": Text(400)}, 16, 400), "fp32")
    write_analysis(tmp_path / json_name(5), 5, found)
    kept = json.loads((tmp_path / "analysis-step-00000005.json").read_text(), parse_constant=refuse)
    broken = kept["activation_statistics"][1]["output"]
    assert broken["kurtosis"] is None and broken["not_finite_fraction"] == (1 if math.isnan(damage) else 0)
    assert broken["zero_fraction"] == (None if math.isnan(damage) else 1)
    assert broken["overflow_headroom_bits"]["float16"] is None  # infinite, or unknown
    assert kept["effective_rank"]["up"][1] == (None if math.isnan(damage) else 0)
    whole = kept["activation_statistics"][0]["output"]
    assert whole["kurtosis"] > 1 and 0 < whole["zero_fraction"] < 1
    assert (kept["layer_similarity"][3][2] is None) == math.isnan(damage)
    scalars = analysis_scalars(found)
    assert scalars["analysis/0/output_zero_fraction"] == whole["zero_fraction"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in draw_analysis(found, "broken").values():
            figure.savefig(tmp_path / "figure.png")
    assert all(path.is_file() for path in write_tables(tmp_path, "broken", found))

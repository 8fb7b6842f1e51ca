"""Every YAML in configs/ loads, and the paper's files give the paper's sizes."""

from pathlib import Path

import pytest

from lightning_polycom.activations import ACTIVATIONS

ROOT = Path(__file__).parents[1]

COMPLETE = sorted((ROOT / "configs").glob("*.yaml"))
OVERLAYS = sorted(path for path in (ROOT / "configs").glob("*/*.yaml") if path.parent.name != "comparison")
COMPARISONS = sorted((ROOT / "configs/comparison").glob("*.yaml"))
SIZES = {"scaling_110m": 110e6, "scaling_226m": 226e6, "scaling_502m": 502e6, "scaling_1_3b": 1.345e9}


@pytest.mark.parametrize("path", COMPLETE, ids=lambda p: p.name)
def test_complete_configs_dry_run(polycom, path):
    outcome = polycom("fit", "--config", path, "--dry_run")
    assert outcome.code == 0, outcome.err
    assert "parameters" in outcome.out


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_overlays_load_on_the_quickstart(polycom, path):
    outcome = polycom("fit", "--config", ROOT / "configs/quickstart.yaml", "--config", path, "--print_config")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("name", ["polynorm", "swiglu", "relu"])  # of the others tests/model/test_config.py counts
def test_dense_1b_has_the_papers_size_in_every_arm(polycom, name):
    outcome = polycom(
        "fit", "--config", ROOT / "configs/dense_1b.yaml", "--dry_run", "--model.decoder.activation.name", name,
        "--trainer.accelerator", "cpu",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "1,345,4" in outcome.out or "1,345,3" in outcome.out
    assert ("width 5504" if ACTIVATIONS[name].gated else "width 8256") in outcome.out


@pytest.mark.parametrize("name", ["polynorm", "swiglu"])
def test_moe_1b_7b_has_the_papers_size_in_both_arms(polycom, name):
    outcome = polycom(
        "fit", "--config", ROOT / "configs/moe_1b_7b.yaml", "--dry_run", "--model.decoder.activation.name", name,
        "--trainer.accelerator", "cpu",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "6,919,161,9" in outcome.out or "6,919,161,8" in outcome.out
    assert "1,282,017,3" in outcome.out or "1,282,017,2" in outcome.out
    assert ("width 1024" if name == "swiglu" else "width 1536") in outcome.out


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda p: p.stem)
def test_comparisons_dry_run(polycom, path, monkeypatch):
    from lightning_polycom.comparison import step_time

    monkeypatch.setattr(step_time, "CHEAP", 0)  # measuring the laptop's steps takes seconds
    outcome = polycom("compare", path, "--dry_run")
    assert outcome.code == 0, outcome.err
    assert f"{path.stem}: equal parameters and tokens" in outcome.out and "runs; " in outcome.out


def test_the_scaling_studys_decoders_have_their_sizes_in_every_arm(monkeypatch):
    import torch

    from lightning_polycom.commands.compare import read_arms, read_options
    from lightning_polycom.model import Decoder

    monkeypatch.chdir(ROOT)
    for name, size in SIZES.items():
        config, *_ = read_options([f"configs/comparison/{name}.yaml"])
        for arm in read_arms(config)[0]:
            with torch.device("meta"):
                decoder = Decoder(arm.decoder)
            assert sum(p.numel() for p in decoder.parameters()) == arm.decoder.num_parameters
            assert arm.decoder.num_parameters == pytest.approx(size, rel=0.005), (name, arm.name)

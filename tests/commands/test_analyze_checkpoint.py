"""`polycom analyze RUN` as it is typed."""

import csv
import json
import shutil

import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_polycom.analysis.effective_rank import effective_rank
from lightning_polycom.checkpoints import load_decoder


@pytest.fixture
def run(polycom, tiny_config, tmp_path):
    """A finished run, with checkpoints of steps 4 and 8."""
    outcome = polycom("fit", "--config", tiny_config)
    assert outcome.code == 0, outcome.err
    return tmp_path / "runs/tiny/version_0"


def test_a_run_is_analysed_as_its_own_probe_does(polycom, tiny_config, tmp_path):
    assert polycom("fit", "--config", tiny_config, "--probe.every_n_steps", 4, "--probe.num_tokens", 500).code == 0
    run = tmp_path / "runs/tiny/version_0"
    file = run / "probes/analysis-step-00000004.json"
    probed = json.loads(file.read_text())
    file.unlink()
    before = sorted((run / "tb").iterdir())
    outcome = polycom("analyze", run / "checkpoints/step-00000004.ckpt", "--num_tokens", 500)
    assert outcome.code == 0, outcome.err
    assert json.loads(file.read_text()) == probed and probed["step"] == 4

    written = outcome.out.splitlines()
    assert written[0] == str(file) and written[-1] == str(run / "figures/tb")
    name = "analysis-tiny-version_0-step-00000004"
    assert sorted(path.name for path in (run / "figures").iterdir()) == [
        f"{name}-activation_statistics.png", f"{name}-coefficients.png", f"{name}-effective_rank.png",
        f"{name}-layer_similarity.png", f"{name}-layers.csv", f"{name}-similarity.csv", "tb",
    ]  # fmt: skip
    for picture in (run / "figures").glob("*.png"):
        assert Image.open(picture).width > 300
    with (run / f"figures/{name}-layers.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [float(row["effective_rank_down"]) for row in rows] == probed["effective_rank"]["down"]
    statistics = probed["activation_statistics"][1]
    assert float(rows[1]["output_quantile_0.99"]) == statistics["output"]["quantiles"]["0.99"]
    assert float(rows[1]["coefficient_2"]) == probed["coefficients"][1]["coefficient_2"]
    assert float(rows[1]["similarity_to_previous"]) == probed["layer_similarity"][2][1]
    events = EventAccumulator(str(run / "figures/tb"))
    events.Reload()
    assert {f"analysis/tiny-version_0/{kind}" for kind in ("effective_rank", "layer_similarity")} <= set(
        events.Tags()["images"]
    )
    (rank,) = events.Scalars("analysis/tiny-version_0/0/effective_rank_up")
    assert rank.step == 4 and rank.value == pytest.approx(probed["effective_rank"]["up"][0])
    assert sorted((run / "tb").iterdir()) == before


def test_weights_only_then_text(polycom, run, tmp_path):
    file, output = run / "probes/analysis-step-00000008.json", tmp_path / "elsewhere"
    outcome = polycom("analyze", "checkpoint", run, "--data", "false")
    assert outcome.code == 0, outcome.err
    weights = json.loads(file.read_text())
    assert set(weights) == {"step", "effective_rank", "coefficients"}
    decoder, _ = load_decoder(run)
    assert weights["effective_rank"]["up"][1] == effective_rank(decoder.blocks[1].feed_forward.up.weight)
    assert polycom("analyze", run).code == 0
    both = json.loads(file.read_text())
    assert polycom("analyze", run, "--data", "false").code == 0
    assert json.loads(file.read_text()) == both and both["num_tokens"] >= 16384
    assert polycom("analyze", run, "--output", output).code == 0
    assert json.loads((output / "analysis-step-00000008.json").read_text()) == both
    file.write_text('{"step": 8')
    refused = polycom("analyze", run, "--data", "false")
    assert refused.code == 2 and f"{file} is no JSON" in refused.err


def test_a_sparse_run(polycom, tiny_config, tmp_path):
    values = yaml.safe_load(tiny_config.read_text())
    values["model"]["decoder"] |= {
        "activation": {"name": "swiglu"},
        "mixture_of_experts": {"num_experts": 4, "experts_per_token": 2, "shared_intermediate_size": 32},
    }
    tiny_config.write_text(yaml.safe_dump(values))
    assert polycom("fit", "--config", tiny_config, "--trainer.max_steps", 4, "--probe.every_n_steps", 4).code == 0
    run = tmp_path / "runs/tiny/version_0"
    outcome = polycom("analyze", run, "--num_tokens", 500)
    assert outcome.code == 0, outcome.err
    found = json.loads((run / "probes/analysis-step-00000004.json").read_text())
    names = ["up", "gate", "down"]
    assert list(found["effective_rank_per_expert"]) == list(found["effective_rank_spread"]) == names
    assert list(found["effective_rank"]) == [*names, *(f"shared_{name}" for name in names)]
    own = torch.tensor(found["effective_rank_per_expert"]["down"], dtype=torch.double)
    assert own.shape == (2, 4) and own.mean(1).tolist() == pytest.approx(found["effective_rank"]["down"])
    count = found["activation_statistics"][0]["output"]["count"]
    assert count == found["num_tokens"] * 2 * 40  # two experts a token; two thirds of 64, a multiple of 8
    with next((run / "figures").glob("*-experts.csv")).open() as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 8 and float(rows[7]["effective_rank_up"]) == found["effective_rank_per_expert"]["up"][1][3]
    assert len(list((run / "figures").glob("*-effective_rank_down.png"))) == 1


def test_an_imported_folder(polycom, run, prepared, tmp_path):
    exported, imported = tmp_path / "exported", tmp_path / "runs/again/imported"
    assert polycom("export", run, "--output", exported).code == 0
    assert polycom("import", exported, "--output", imported).code == 0
    refused = polycom("analyze", imported)
    assert refused.code == 2 and "--data" in refused.err and refused.err.strip().count("\n") == 0
    outcome = polycom("analyze", imported, "--data", prepared, "--num_tokens", 500)
    assert outcome.code == 0, outcome.err
    assert polycom("analyze", run, "--num_tokens", 500).code == 0
    one, other = (json.loads((f / "probes/analysis-step-00000008.json").read_text()) for f in (run, imported))
    assert other == one


def test_what_cannot_be_read_or_written_is_one_line(polycom, run, prepared, tmp_path):
    before, lacking = sorted((run / "tb").iterdir()), tmp_path / "lacking"
    refused = polycom("analyze", run, "--output", run)
    assert refused.code == 2 and "output: " in refused.err and sorted((run / "tb").iterdir()) == before
    refused = polycom("analyze", run, "--data", lacking)
    assert refused.code == 2 and str(lacking) in refused.err and "--data false" in refused.err
    shutil.copytree(prepared, lacking)
    manifest = json.loads((lacking / "manifest.json").read_text())
    manifest["tokenizer"]["sha256"] = "0" * 64
    (lacking / "manifest.json").write_text(json.dumps(manifest))
    refused = polycom("analyze", run, "--data", lacking)
    assert refused.code == 2 and "another tokenizer" in refused.err and refused.err.strip().count("\n") == 0
    assert not (run / "probes").exists() and not (run / "figures").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("runs/none",), "runs/none does not exist"),
        (("checkpoint", "runs/none"), "runs/none does not exist"),
        (("runs/none", "--num_tokens", 0), "num_tokens: found 0"),
        (("runs/none", "--data", "true"), "data: found true"),
        (("runs/none", "--num_token", 5), "num_tokens"),
        ((), "activation,checkpoint"),
        (("activatoin", "polynorm"), "invalid choice: 'activatoin'"),
    ],
)
def test_mistakes_are_one_line(polycom, arguments, message):
    outcome = polycom("analyze", *arguments)
    assert outcome.code == 2
    assert message in outcome.err and outcome.err.strip().count("\n") == 0

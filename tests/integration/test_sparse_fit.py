"""Whole runs of a sparse decoder through the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sparse_config(tiny_config) -> Path:
    """A tiny run with 4 experts, 2 a token, each with coefficients of its own; checkpoints hold the selection bias."""
    values = yaml.safe_load(tiny_config.read_text())
    decoder = values["model"]["decoder"]
    decoder["activation"] = {"name": "polynorm", "scope": "expert"}
    decoder["mixture_of_experts"] = {"num_experts": 4, "experts_per_token": 2, "selection_bias": True}
    values["model"]["balancing"] = {"load_balance_loss_weight": 0.05, "router_z_loss_weight": 0.01}
    values["checkpoint"]["keep_last"] = 0
    tiny_config.write_text(yaml.safe_dump(values))
    return tiny_config


def logged(run: Path) -> dict[str, list[tuple[int, float]]]:
    found = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        for tag in values.keys() - {"step", "time"}:
            found.setdefault(tag, []).append((values["step"], values[tag]))
    return found


def weights(run: Path, step: int = 8) -> dict[str, torch.Tensor]:
    return torch.load(run / f"checkpoints/step-{step:08d}.ckpt", weights_only=True)["state_dict"]


def test_a_sparse_run_follows_its_experts_and_resumes_with_the_same_bits(polycom, sparse_config, tmp_path):
    arguments = ("fit", "--config", sparse_config, "--model.activation_checkpointing", "full")
    outcome = polycom(*arguments, "--run.version", "whole")
    assert outcome.code == 0, outcome.err
    runs = tmp_path / "runs/tiny"
    values = logged(runs / "whole")
    for tag in (
        "train/load_balance_loss", "train/router_z_loss", "moe/0/max_load_over_mean", "moe/1/router_entropy",
        "moe/1/dropped_fraction", "activation/0/coefficient_1",
    ):  # fmt: skip
        assert [step for step, _ in values[tag]][-4:] == [2, 4, 6, 8], tag
    assert all(value == 0 for _, value in values["moe/0/dropped_fraction"])
    assert all(1.9 < value < 4 for _, value in values["train/load_balance_loss"])  # 2 experts a token: 2 is even
    assert all(1 <= value <= 2 for _, value in values["moe/0/max_load_over_mean"])
    assert all(0 < value <= torch.log(torch.tensor(4.0)) + 1e-5 for _, value in values["moe/0/router_entropy"])

    probe = json.loads((runs / "whole/probes/experts-step-00000008.json").read_text())
    assert torch.tensor(probe["load"]).mean(1).tolist() == pytest.approx([1, 1])
    assert torch.tensor(probe["coefficient_3"]).shape == (2, 4)
    events = EventAccumulator(str(runs / "whole/tb"), size_guidance={"images": 0}).Reload()
    for tag in ("moe/load", "moe/coefficient_1"):
        assert [image.step for image in events.Images(tag)] == [4, 8]

    half = ("--checkpoint.every_n_steps", "4")
    version = ("--run.version", "parts")
    with_end = polycom(*arguments, *half, *version, "--trainer.max_steps", "4", "--model.schedule.decay_steps", "6")
    assert with_end.code == 0, with_end.err
    whole = weights(runs / "whole", 8)
    bias = whole["decoder.blocks.1.feed_forward.router.selection_bias"]
    assert bias.abs().max() > 0
    outcome = polycom(*arguments, *half, *version, "--ckpt_path", "auto", "--model.schedule.decay_steps", "6")
    assert outcome.code == 0, outcome.err
    parts = weights(runs / "parts", 8)
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)


def fit(config: Path, version: str, *options: str) -> None:
    command = [sys.executable, "-m", "lightning_polycom", "fit", "--config", str(config), "--run.version", version]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment, check=False
    )
    assert found.returncode == 0, found.stderr[-3000:]


@pytest.mark.parametrize("strategy", [pytest.param("ddp", marks=pytest.mark.long), "configs/trainer/fsdp.yaml"])
@pytest.mark.slow
def test_two_processes_equal_one(sparse_config, tmp_path, polycom, strategy):
    assert polycom("fit", "--config", sparse_config, "--run.version", "one").code == 0
    by_file = strategy.endswith(".yaml")
    how = ("--config", strategy) if by_file else ("--trainer.strategy", strategy)
    fit(
        sparse_config, "two", *how, "--data.micro_batch_size", "2", "--trainer.devices", "2",
        "--trainer.accelerator", "cpu", "--trainer.precision", "32-true",
    )  # fmt: skip
    one, two = (logged(tmp_path / "runs/tiny" / version) for version in ("one", "two"))
    tags = ("train/loss", "train/load_balance_loss", "train/router_z_loss", "optim/grad_norm", "val/code/loss")
    for tag in (*tags, "moe/1/max_load_over_mean", "moe/0/router_entropy"):
        assert [v for _, v in one[tag]] == pytest.approx([v for _, v in two[tag]], rel=1e-3), tag


def test_a_sparse_checkpoint_is_evaluated_and_continues_text(polycom, sparse_config, tmp_path):
    assert polycom("fit", "--config", sparse_config, "--run.version", "one").code == 0
    run = tmp_path / "runs/tiny/one"
    outcome = polycom("evaluate", run, "--tasks", "heldout_continuation", "--include_path", "data/tasks")
    assert outcome.code == 0 and "heldout_continuation" in outcome.out, outcome.err
    outcome = polycom("generate", run, "--prompt", "def ", "--max_new_tokens", "5")
    assert outcome.code == 0, outcome.err


def test_a_checkpoint_of_another_mixture_is_refused_in_one_line(polycom, sparse_config, tmp_path):
    assert polycom("fit", "--config", sparse_config, "--run.version", "one").code == 0
    outcome = polycom(
        "fit", "--config", sparse_config, "--ckpt_path", tmp_path / "runs/tiny/one", "--trainer.max_steps", "12",
        "--model.decoder.mixture_of_experts.experts_per_token", "1",
    )  # fmt: skip
    assert outcome.code == 2
    assert "mixture_of_experts.experts_per_token 2 (here 1)" in outcome.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (
            "model.decoder.mixture_of_experts.experts_per_token",
            "5",
            "experts_per_token: found 5; give 1 to",
        ),
        ("model.balancing.router_z_loss_weight", "-1", "balancing.router_z_loss_weight: found -1"),
        ("model.decoder.mixture_of_experts.num_expert", "5", "num_expert"),
    ],
)
def test_bad_settings_are_refused_in_one_line(polycom, sparse_config, option, value, message):
    outcome = polycom("fit", "--config", sparse_config, f"--{option}", value)
    assert outcome.code == 2 and message in outcome.err, outcome.err

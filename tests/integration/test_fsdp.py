"""`polycom fit` under FSDP2 on gloo processes, and what other commands do with its checkpoints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
TASKS = ("--evaluation.tasks", '["heldout_continuation"]', "--evaluation.include_path", '["data/tasks"]')
CONSTANT = ("--model.schedule.name", "constant", "--checkpoint.keep_last", 0)


def fit(config: Path, version: str, devices: int, *options: object) -> subprocess.CompletedProcess:
    """A sharded run as its own processes."""
    command = [
        sys.executable, "-m", "lightning_polycom", "fit", "--config", config, "--config", "configs/trainer/fsdp.yaml",
        "--trainer.accelerator", "cpu", "--trainer.devices", devices, "--data.micro_batch_size", 4 // devices,
        "--run.version", version, *options,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment, check=False
    )


def values(run: Path, tag: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[tag] for line in lines if tag in line}


def checkpoint_file(run: Path, step: int) -> dict:
    return torch.load(run / f"checkpoints/step-{step:08d}.ckpt", weights_only=True)


@pytest.mark.slow
def test_two_processes_then_one_and_the_other_commands(polycom, tiny_config, tmp_path):
    """2 sharded processes -> 1 plain process, against 1 plain process from the start."""
    runs = tmp_path / "runs/tiny"
    assert polycom("fit", "--config", tiny_config, "--run.version", "one", *TASKS, *CONSTANT).code == 0
    options = ("--ckpt_path", "auto", *TASKS, *CONSTANT)
    begun = fit(tiny_config, "two", 2, "--trainer.max_steps", 4, *options)
    assert begun.returncode == 0, begun.stderr[-3000:]
    assert "training starts from step 0" in begun.stdout and "Warning" not in begun.stderr
    sharded = runs / "two/checkpoints/step-00000004.ckpt"
    assert sharded.is_dir() and json.loads((sharded / "complete.json").read_text())["world_size"] == 2
    joined = polycom("consolidate", runs / "two")
    assert joined.code == 0, joined.err
    outcome = polycom("fit", "--config", tiny_config, "--run.version", "two", *options)
    assert outcome.code == 0 and f"goes on from {sharded}" in outcome.out, outcome.err

    for tag in ("train/loss", "val/loss", "optim/grad_norm", "activation/1/coefficient_2", "eval/average"):
        expected, found = values(runs / "one", tag), values(runs / "two", tag)
        assert expected.keys() == found.keys() and expected
        assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-5), tag
    for step, other in ((4, joined.out.split(" -> ")[1].strip()), (8, runs / "two/checkpoints/step-00000008.ckpt")):
        one, two = checkpoint_file(runs / "one", step), torch.load(other, weights_only=True)
        assert list(one["state_dict"]) == list(two["state_dict"])
        for name, weight in one["state_dict"].items():
            torch.testing.assert_close(two["state_dict"][name], weight, rtol=1e-4, atol=1e-5)
        states = [kept["optimizer_states"][0] for kept in (one, two)]
        assert states[0]["param_groups"] == states[1]["param_groups"]
        for number, state in states[0]["state"].items():
            for key, value in state.items():
                torch.testing.assert_close(states[1]["state"][number][key], value, rtol=1e-3, atol=1e-6)

    texts = {
        polycom("generate", path, "--prompt", "def", "--temperature", 0).out
        for path in (sharded, runs / "two/consolidated/step-00000004.ckpt")
    }
    assert len(texts) == 1 and next(iter(texts)).startswith("def")
    scored = polycom("evaluate", sharded, "--output", tmp_path / "scores.json")
    assert scored.code == 0, scored.err
    assert (
        json.loads((tmp_path / "scores.json").read_text())["results"]["heldout_continuation"]["acc,none"]
        == (values(runs / "two", "eval/heldout_continuation/acc")[4])
    )
    again = polycom("fit", "--config", tiny_config, "--run.version", "two", *options)
    assert again.code == 0 and "the run is finished" in again.out


@pytest.mark.slow
def test_a_file_is_continued_sharded_and_an_incomplete_folder_is_skipped(polycom, tiny_config, tmp_path):
    """1 plain process -> 2 sharded, whose checkpoint is damaged -> 1 plain process again from the file."""
    runs = tmp_path / "runs/tiny"
    assert polycom("fit", "--config", tiny_config, "--run.version", "one", *CONSTANT).code == 0
    assert (
        polycom("fit", "--config", tiny_config, "--run.version", "two", "--trainer.max_steps", 4, *CONSTANT).code == 0
    )
    expected = list(values(runs / "one", "train/loss").values())
    done = fit(tiny_config, "two", 2, "--ckpt_path", "auto", *CONSTANT)
    assert done.returncode == 0, done.stderr[-3000:]
    newest = runs / "two/checkpoints/step-00000008.ckpt"
    assert newest.is_dir() and "step-00000004.ckpt" in done.stdout
    assert list(values(runs / "two", "train/loss").values()) == pytest.approx(expected, rel=1e-5)
    with (newest / "__1_0.distcp").open("r+b") as file:
        file.truncate(100)
    outcome = polycom("fit", "--config", tiny_config, "--run.version", "two", "--ckpt_path", "auto", *CONSTANT)
    assert outcome.code == 0 and newest.is_file(), outcome.err
    assert f"skipped, checkpoint: {newest} is incomplete, __1_0.distcp is missing or cut short" in outcome.out
    assert list(values(runs / "two", "train/loss").values()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.long
def test_two_one_four_and_replicas(polycom, tiny_config, tmp_path):
    runs = tmp_path / "runs/tiny"
    assert polycom("fit", "--config", tiny_config, "--run.version", "one", *CONSTANT).code == 0
    replicas = ("--trainer.strategy.init_args.replicate_size", 2)
    for devices, steps, more in ((2, 2, ()), (1, 4, ()), (4, 6, ()), (4, 8, replicas)):
        done = fit(tiny_config, "x", devices, "--ckpt_path", "auto", "--trainer.max_steps", steps, *CONSTANT, *more)
        assert done.returncode == 0, done.stderr[-3000:]
    for tag in ("train/loss", "optim/grad_norm"):
        expected, found = values(runs / "one", tag), values(runs / "x", tag)
        assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-5), tag


@pytest.mark.long
def test_compiled_checkpointed_blocks_in_bf16(tiny_config, tmp_path):
    plain = fit(tiny_config, "plain", 2, "--trainer.precision", "bf16-mixed")
    options = ("--model.compile", "true", "--model.activation_checkpointing", "full")
    compiled = fit(tiny_config, "compiled", 2, "--trainer.precision", "bf16-mixed", *options)
    assert plain.returncode == compiled.returncode == 0, compiled.stderr[-3000:]
    losses = [list(values(tmp_path / "runs/tiny" / name, "train/loss").values()) for name in ("plain", "compiled")]
    assert losses[0] == pytest.approx(losses[1], rel=5e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--trainer.strategy.init_args.replicate_size", 3),
            "replicate_size: 3 does not divide the number of ranks, 1",
        ),
        (("--trainer.strategy.init_args.replicate_size", 0), "replicate_size: 0 does not divide"),
        (
            (
                *("--model.activation_checkpointing", "selective", "--model.compile", "true"),
                *("--trainer.precision", "bf16-mixed"),
            ),
            "selective does not work with model.compile",
        ),
        (("--model.activation_checkpointing", 0), "activation_checkpointing: found 0"),
        (("--checkpoint.keep_every_n_steps", 3), "give a multiple of every_n_steps"),
    ],
)
def test_impossible_options_are_refused_in_one_line(polycom, tiny_config, options, message):
    sharded = ("--config", ROOT / "configs/trainer/fsdp.yaml", "--trainer.accelerator", "cpu", "--trainer.devices", 1)
    outcome = polycom("fit", "--config", tiny_config, *sharded, *options)
    assert outcome.code == 2 and message in outcome.err and "Traceback" not in outcome.err

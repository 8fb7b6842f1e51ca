"""Runs that are killed at random moments, also while they save, resume by themselves and end with the same bits."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from lightning_polycom.checkpoints.sharded import read_joined

ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent


@pytest.fixture
def config(tiny_config) -> Path:
    """The tiny run with a checkpoint after every second step, long enough to be killed in it."""
    values = yaml.safe_load(tiny_config.read_text())
    values["data"] |= {"sequence_length": 16, "max_validation_tokens": 64}
    values["trainer"]["callbacks"] = [{"class_path": "random_kill.RandomKill"}]
    values["checkpoint"]["every_n_steps"] = 2
    tiny_config.write_text(yaml.safe_dump(values))
    return tiny_config


def start(config: Path, version: str, devices: int, steps: int, kill: str | None, *options: object) -> int:
    """The exit code of one start under --ckpt_path auto; killed at `kill`, or left alone."""
    sharded = ("--config", "configs/trainer/fsdp.yaml", "--trainer.accelerator", "cpu", "--trainer.devices", devices)
    command = [
        sys.executable, "-m", "lightning_polycom", "fit", "--config", config, "--run.version", version,
        "--trainer.max_steps", steps, "--trainer.val_check_interval", steps, "--data.micro_batch_size", 4 // devices,
        "--ckpt_path", "auto", *(sharded if devices > 1 else ()), *options,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)} | ({"KILL": kill} if kill else {})
    found = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment, check=False,
        start_new_session=True,
    )  # fmt: skip
    assert found.returncode in (0, -signal.SIGKILL), found.stdout[-1000:] + found.stderr[-3000:]
    assert kill or found.returncode == 0
    return found.returncode


def final(run: Path, steps: int) -> dict:
    path = run / f"checkpoints/step-{steps:08d}.ckpt"
    return read_joined(path, True) if path.is_dir() else torch.load(path, weights_only=True)


def check(config: Path, tmp_path: Path, devices: int, steps: int, moments: list[str], asynchronous: bool) -> int:
    """Kills a run at each of `moments` of its starts; returns how many starts were killed before they finished.

    The run that is not killed saves synchronously.
    """
    option = "--checkpoint.asynchronous"
    start(config, "straight", devices, steps, None, option, "false")
    saves = (option, str(asynchronous).lower())
    killed = sum(start(config, "killed", devices, steps, moment, *saves) != 0 for moment in moments)
    start(config, "killed", devices, steps, None, *saves)
    folders = [tmp_path / "runs/tiny" / name for name in ("straight", "killed")]
    one, other = (final(folder, steps) for folder in folders)
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())
    states = [kept["optimizer_states"][0]["state"] for kept in (one, other)]
    assert all(torch.equal(states[0][n][key], states[1][n][key]) for n in states[0] for key in states[0][n])
    left = {path.name for path in (folders[1] / "checkpoints").iterdir() if path.name.startswith(".step")}
    assert not left, "what killed saves have left is there still"
    return killed


@pytest.mark.parametrize(
    ("devices", "steps", "moments", "asynchronous"),
    [
        pytest.param(1, 30, ["slow:0.3", "save:0", "0.02"], True, marks=pytest.mark.long),
        pytest.param(1, 30, ["save:0", "0.02"], False, marks=pytest.mark.long),
        pytest.param(2, 12, ["slow:0.3", "save:0.004"], True, marks=pytest.mark.long),
        pytest.param(2, 12, ["save:0.004"], False, marks=pytest.mark.long),
    ],
)
def test_a_few_kills(config, tmp_path, devices, steps, moments, asynchronous):
    assert check(config, tmp_path, devices, steps, moments, asynchronous) == len(moments)


@pytest.mark.long
@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize(("devices", "steps", "longest"), [(1, 1000, 0.6), (2, 500, 2.0)])
def test_many_kills(config, tmp_path, devices, steps, longest, asynchronous):
    rng = random.Random(devices)
    moments = [
        f"save:{rng.uniform(0, 0.03):.4f}" if rng.random() < 0.5 else f"{rng.uniform(0, longest):.3f}"
        for _ in range(36)
    ]
    assert check(config, tmp_path, devices, steps, moments, asynchronous) >= 30

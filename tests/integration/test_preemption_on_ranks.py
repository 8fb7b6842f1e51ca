"""Two processes, of which one is told to stop, or whose time is up, save the same step and go on to the same bits."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from lightning_polycom.checkpoints.sharded import read_joined

ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent
STEPS = 6
WAYS = {"ddp": ("--trainer.strategy", "ddp"), "fsdp": ("--config", "configs/trainer/fsdp.yaml")}


def fit(folder: Path, config: Path, way: str, starts: list[tuple[tuple, dict]]) -> tuple[list[list[int]], str]:
    """The exit codes of both ranks of each start, and what was printed."""
    common = ("--config", config, *WAYS[way], "--trainer.accelerator", "cpu", "--trainer.devices", 2)
    (folder / "starts.json").write_text(
        json.dumps([([str(argument) for argument in (*common, *options)], env) for options, env in starts])
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), str(ROOT), environment.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, str(HERE / "fit_on_ranks.py"), str(folder / "starts.json")],
        capture_output=True, text=True, timeout=200, cwd=ROOT, env=environment, check=False,
    )  # fmt: skip
    assert found.returncode == 0 and "Traceback" not in found.stderr, found.stderr[-3000:]
    return json.loads(found.stdout.splitlines()[-1]), found.stdout


def final(run: Path) -> dict:
    path = run / f"checkpoints/step-{STEPS:08d}.ckpt"
    return read_joined(path, with_optimizer=True) if path.is_dir() else torch.load(path, weights_only=True)


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_a_signal_to_the_second_process_and_then_the_time(tiny_config, tmp_path, way):
    values = yaml.safe_load(tiny_config.read_text())
    values["trainer"] |= {"max_steps": STEPS, "val_check_interval": STEPS}
    values["trainer"]["callbacks"] = [{"class_path": "interruption.Interruption"}]
    values["data"] |= {"micro_batch_size": 2, "sequence_length": 16, "max_validation_tokens": 64}
    values["checkpoint"] = {"every_n_steps": STEPS, "keep_last": 0}
    tiny_config.write_text(yaml.safe_dump(values))
    stopped = ("--run.version", "stopped", "--ckpt_path", "auto")
    starts = [
        (("--run.version", "straight"), {}),
        (stopped, {"SIGNAL_AT": "1:1"}),
        ((*stopped, "--trainer.max_time", "00:00:00:01"), {"STEP_SECONDS": "0.4"}),
        (stopped, {}),
    ]
    codes, out = fit(tmp_path, tiny_config, way, starts)
    assert codes == [[0, 0], [75, 0], [75, 0], [0, 0]], out
    straight, run = (tmp_path / "runs/tiny" / name for name in ("straight", "stopped"))
    timed = int(re.search(r"stopped by trainer.max_time at step (\d+)", out)[1])
    assert "stopped by SIGTERM at step 2 of 6" in out and 2 < timed < STEPS
    names = [f"step-{step:08d}.ckpt" for step in (2, timed, STEPS)]
    assert sorted(path.name for path in (run / "checkpoints").glob("*step*")) == names
    if way == "fsdp":
        records = [json.loads((run / "checkpoints" / name / "complete.json").read_text()) for name in names]
        assert [(record["step"], record["world_size"]) for record in records] == [(2, 2), (timed, 2), (STEPS, 2)]
    one, other = final(straight), final(run)
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())
    states = [kept["optimizer_states"][0]["state"] for kept in (one, other)]
    assert all(torch.equal(states[0][n][key], states[1][n][key]) for n in states[0] for key in states[0][n])

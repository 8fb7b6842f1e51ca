"""Two processes, of which one is told to stop, or whose time is up, save the same step and go on to the same bits."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from fit_on_ranks import fit_on_ranks

from lightning_polycom.checkpoints.sharded import read_joined

STEPS = 6


def final(run: Path) -> dict:
    path = run / f"checkpoints/step-{STEPS:08d}.ckpt"
    return read_joined(path, with_optimizer=True) if path.is_dir() else torch.load(path, weights_only=True)


@pytest.mark.parametrize("way", ["fsdp", pytest.param("ddp", marks=pytest.mark.long)])
@pytest.mark.slow
def test_a_signal_to_the_second_process_and_then_the_time(tiny_config, tmp_path, way):
    values = yaml.safe_load(tiny_config.read_text())
    values["trainer"] |= {"max_steps": STEPS, "val_check_interval": STEPS}
    values["trainer"]["callbacks"] = [{"class_path": "interruption.Interruption"}]
    values["data"] |= {"micro_batch_size": 2, "sequence_length": 16, "max_validation_tokens": 64}
    values["checkpoint"] = {"every_n_steps": STEPS, "keep_last": 0}
    tiny_config.write_text(yaml.safe_dump(values))
    stopped = ("--run.version", "stopped", "--ckpt_path", "auto")
    starts = [
        (way, ("--run.version", "straight"), {}),
        (way, stopped, {"SIGNAL_AT": "1:1"}),
        (way, (*stopped, "--trainer.max_time", "00:00:00:01"), {"STEP_SECONDS": "0.4"}),
        (way, stopped, {}),
    ]
    codes, out = fit_on_ranks(tmp_path, tiny_config, starts)
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

"""FSDP2 with gradients that are reduced after every micro-batch, or after the last one only."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def values(run: Path, tag: str) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[tag] for line in lines if tag in line]


@pytest.mark.long
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_losses_are_the_same_with_fewer_reductions(tiny_config, tmp_path, precision):
    counts = {}
    for choice in ("true", "false"):
        (tmp_path / choice).mkdir()
        overlay = tmp_path / f"{choice}.yaml"
        counter = {"class_path": "reductions.CountReductions", "init_args": {"folder": str(tmp_path / choice)}}
        overlay.write_text(yaml.safe_dump({"trainer": {"callbacks": [counter]}}), encoding="utf-8")
        command = [
            sys.executable, "-m", "lightning_polycom", "fit", "--config", tiny_config,
            "--config", "configs/trainer/fsdp.yaml", "--config", overlay, "--trainer.accelerator", "cpu",
            "--trainer.devices", 2, "--data.micro_batch_size", 1, "--run.version", choice,
            "--trainer.precision", precision, "--trainer.strategy.init_args.reduce_every_micro_batch", choice,
        ]  # fmt: skip
        path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        found = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment, check=False
        )
        assert found.returncode == 0, found.stderr[-3000:]
        counts[choice] = json.loads((tmp_path / choice / "reductions-1.json").read_text())
    often = counts["true"][0]
    assert often > 0 and counts == {"true": [often] * 16, "false": [0, often] * 8}
    runs = tmp_path / "runs/tiny"
    for tag in ("train/loss", "optim/grad_norm", "val/loss"):
        tolerance = 1e-5 if precision == "32-true" else 2e-3
        assert values(runs / "false", tag) == pytest.approx(values(runs / "true", tag), rel=tolerance), tag

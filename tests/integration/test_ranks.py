"""Two gloo processes on a CPU train, validate and evaluate as one process does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def fit(config: Path, version: str, *options: str) -> None:
    command = [
        sys.executable,
        "-m",
        "lightning_polycom",
        "fit",
        "--config",
        str(config),
        "--run.version",
        version,
        *options,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment, check=False)
    assert found.returncode == 0, found.stderr[-3000:]


def values(run: Path, tag: str) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line[tag]) for line in lines if tag in line]


@pytest.mark.slow
def test_two_processes_equal_one(tiny_config, tmp_path):
    options = ("--evaluation.tasks", '["heldout_continuation"]', "--evaluation.include_path", '["data/tasks"]')
    fit(tiny_config, "one", *options)
    two = ("--data.micro_batch_size", "1", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    fit(tiny_config, "two", *options, *two)
    runs = tmp_path / "runs/tiny"
    assert json.loads((runs / "two/run.json").read_text())["world_size"] == 2
    for tag in (
        "train/loss",
        "optim/grad_norm",
        "val/code/loss",
        "val/prose/bits_per_byte",
        "activation/0/coefficient_3",
    ):
        one, both = values(runs / "one", tag), values(runs / "two", tag)
        assert [step for step, _ in one] == [step for step, _ in both] and one
        assert [v for _, v in both] == pytest.approx([v for _, v in one], rel=1e-4), tag
    accuracy = [values(runs / name, "eval/heldout_continuation/acc") for name in ("one", "two")]
    assert accuracy[0] == accuracy[1]

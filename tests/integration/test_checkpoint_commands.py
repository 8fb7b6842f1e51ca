"""validate, evaluate and generate on the checkpoint of a finished run."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def finished(polycom, tiny_config, tmp_path) -> Path:
    options = ("--evaluation.tasks", '["heldout_continuation"]', "--evaluation.include_path", '["data/tasks"]')
    outcome = polycom("fit", "--config", tiny_config, *options)
    assert outcome.code == 0, outcome.err
    return tmp_path / "runs/tiny/version_0"


def test_evaluate_gives_the_callbacks_numbers(polycom, finished, tmp_path):
    for step in (4, 8):
        name, output = f"step-{step:08d}", tmp_path / f"again-{step}.json"
        outcome = polycom("evaluate", finished / f"checkpoints/{name}.ckpt", "--output", output)
        assert outcome.code == 0, outcome.err
        again, before = (json.loads(p.read_text())["results"] for p in (output, finished / f"evals/{name}.json"))
        assert again == before
    assert "heldout_continuation" in outcome.out and "0.250" in outcome.out


def test_validate_gives_the_runs_losses(polycom, finished, tiny_config):
    outcome = polycom("validate", "--config", tiny_config, "--ckpt_path", finished)
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    loss = [line["val/code/loss"] for line in lines if "val/code/loss" in line][-1]
    assert f"{loss:.3f}" in outcome.out


def test_generate_continues_the_prompt(polycom, finished):
    outcome = polycom("generate", finished.parent, "--prompt", "def main", "--max_new_tokens", 12)
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("def main") and len(outcome.out) > len("def main\n")
    again = polycom("generate", finished.parent, "--prompt", "def main", "--max_new_tokens", 12)
    assert again.out == outcome.out
    both = polycom("generate", finished.parent, "--prompt", "def main", "[1, 2", "--max_new_tokens", 12)
    assert both.code == 0, both.err
    assert both.out.startswith(outcome.out.rstrip("\n")) and "\n\n[1, 2" in both.out

"""Whole runs with compiled blocks: one graph a run, the bits of an uninterrupted run, checkpoints for either kind."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch._inductor.config
from counting_backend import CountingBackend

from lightning_polycom.training import module
from lightning_polycom.training.compilation import compile_blocks, missing_compiler

ROOT = Path(__file__).parents[2]
TASKS = ("--evaluation.tasks", '["heldout_continuation"]', "--evaluation.include_path", '["data/tasks"]')
COMPILED = ("--model.compile", "true")

builds_code = pytest.mark.skipif(
    (missing := missing_compiler(torch.device("cpu"))) is not None, reason=f"model.compile cannot be tested: {missing}"
)


@pytest.fixture
def graphs(monkeypatch) -> CountingBackend:
    """Counts the graphs of a run instead of building code for them, which takes seconds."""
    backend = CountingBackend()
    monkeypatch.setattr(module, "compile_blocks", functools.partial(compile_blocks, backend=backend))
    return backend


def values(run: Path, tag: str) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line[tag]) for line in lines if tag in line]


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return torch.load(run / f"checkpoints/step-{step:08d}.ckpt", weights_only=True)["state_dict"]


def close(one: Path, other: Path, rel: float) -> None:
    for tag in ("train/loss", "optim/grad_norm", "val/code/loss", "activation/0/coefficient_3"):
        first, second = values(one, tag), values(other, tag)
        assert [step for step, _ in first] == [step for step, _ in second] and first
        assert [v for _, v in second] == pytest.approx([v for _, v in first], rel=rel), tag


def test_a_run_with_validation_and_evaluation_is_one_graph(polycom, tiny_config, tmp_path, graphs):
    options = (*TASKS, "--model.decoder.num_layers", 9, "--data.micro_batch_size", 2)
    outcome = polycom("fit", "--config", tiny_config, *options, *COMPILED, "--run.version", "compiled")
    assert outcome.code == 0, outcome.err
    assert graphs.graphs == 1
    assert polycom("fit", "--config", tiny_config, *options, "--run.version", "eager").code == 0
    runs = tmp_path / "runs/tiny"
    assert graphs.graphs == 1
    close(runs / "eager", runs / "compiled", rel=1e-4)
    assert list(weights(runs / "compiled", 8)) == list(weights(runs / "eager", 8))


def test_evaluation_leaves_compiled_training_as_it_was(polycom, tiny_config, tmp_path, graphs):
    assert polycom("fit", "--config", tiny_config, *COMPILED, "--run.version", "without").code == 0
    often = (*TASKS, "--evaluation.every_n_steps", 2, "--evaluation.limit", 2)
    assert polycom("fit", "--config", tiny_config, *COMPILED, *often, "--run.version", "with").code == 0
    runs = tmp_path / "runs/tiny"
    assert len(list((runs / "with/evals").iterdir())) == 4
    assert values(runs / "with", "train/loss") == values(runs / "without", "train/loss") != []
    first, second = weights(runs / "without", 8), weights(runs / "with", 8)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("first", ["true", "false"])
def test_a_run_resumes_with_the_other_setting(polycom, tiny_config, tmp_path, graphs, first):
    other = "false" if first == "true" else "true"
    start = ("--trainer.max_steps", 4, "--model.schedule.name", "constant", "--run.version", "mixed")
    assert polycom("fit", "--config", tiny_config, *start, "--model.compile", first).code == 0
    run = tmp_path / "runs/tiny/mixed"
    for command in (("evaluate", run, "--tasks", "heldout_continuation", "--include_path", "data/tasks"),
                    ("generate", run, "--prompt", "def", "--max_new_tokens", 3),
                    ("validate", "--config", tiny_config, "--model.compile", other, "--ckpt_path", run)):  # fmt: skip
        outcome = polycom(*command)
        assert outcome.code == 0, outcome.err
    assert graphs.graphs == (first == "true")
    settings = ("--model.schedule.name", "constant", "--model.compile", other)
    outcome = polycom("fit", "--config", tiny_config, *settings, "--ckpt_path", run)
    assert outcome.code == 0, outcome.err
    assert graphs.graphs == 1
    assert polycom("fit", "--config", tiny_config, "--model.schedule.name", "constant").code == 0
    close(tmp_path / "runs/tiny/version_0", run, rel=1e-4)


def test_a_checkpoint_from_before_the_setting_resumes_compiled(polycom, tiny_config, tmp_path, graphs):
    assert polycom("fit", "--config", tiny_config, "--run.version", "old").code == 0
    file = tmp_path / "runs/tiny/old/checkpoints/step-00000004.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    del checkpoint["hyper_parameters"]["compile"]
    torch.save(checkpoint, file)
    (file.parent / "step-00000008.ckpt").unlink()
    outcome = polycom("fit", "--config", tiny_config, *COMPILED, "--ckpt_path", file)
    assert outcome.code == 0, outcome.err
    assert graphs.graphs == 1 and polycom("generate", file, "--max_new_tokens", 2).code == 0


def test_bf16_and_micro_batches_compile_to_one_graph(polycom, tiny_config, tmp_path, graphs):
    options = ("--trainer.precision", "bf16-mixed", "--data.micro_batch_size", 1)
    assert polycom("fit", "--config", tiny_config, *options, "--run.version", "eager").code == 0
    outcome = polycom("fit", "--config", tiny_config, *options, *COMPILED, "--run.version", "compiled")
    assert outcome.code == 0, outcome.err
    assert graphs.graphs == 1
    close(tmp_path / "runs/tiny/eager", tmp_path / "runs/tiny/compiled", rel=0.02)


@torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")})
def test_a_run_without_a_compiler_is_refused_before_anything_is_written(polycom, tiny_config, tmp_path):
    outcome = polycom("fit", "--config", tiny_config, *COMPILED)
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert "model.compile: no C++ compiler found (tried no-such-compiler" in outcome.err
    assert not (tmp_path / "runs").exists()
    dry = polycom("fit", "--config", tiny_config, *COMPILED, "--dry_run")
    assert dry.code == 0 and "not on this machine" in " ".join(dry.out.split())
    assert polycom("fit", "--config", tiny_config).code == 0


@builds_code
@pytest.mark.slow
def test_a_resumed_compiled_run_ends_with_the_same_bits(polycom, tiny_config, tmp_path):
    assert polycom("fit", "--config", tiny_config, *COMPILED).code == 0
    assert polycom("fit", "--config", tiny_config, *COMPILED, "--run.version", "stopped").code == 0
    stopped = tmp_path / "runs/tiny/stopped"
    (stopped / "checkpoints/step-00000008.ckpt").unlink()
    outcome = polycom("fit", "--config", tiny_config, *COMPILED, "--ckpt_path", stopped)
    assert outcome.code == 0, outcome.err
    straight, resumed = weights(tmp_path / "runs/tiny/version_0", 8), weights(stopped, 8)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert values(tmp_path / "runs/tiny/version_0", "train/loss") == values(stopped, "train/loss")


@pytest.mark.long
@builds_code
def test_two_compiled_processes_equal_one_eager(polycom, tiny_config, tmp_path):
    assert polycom("fit", "--config", tiny_config, "--run.version", "one").code == 0
    command = [sys.executable, "-m", "lightning_polycom", "fit", "--config", tiny_config, "--run.version", "two"]
    options = [*COMPILED, "--data.micro_batch_size", 1, "--trainer.devices", 2, "--trainer.strategy", "ddp",
               "--model.decoder.recompute_activation", "true"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [*map(str, command), *map(str, options)], capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment
    )
    assert found.returncode == 0, found.stderr[-3000:]
    runs = tmp_path / "runs/tiny"
    assert json.loads((runs / "two/run.json").read_text())["world_size"] == 2
    close(runs / "one", runs / "two", rel=1e-4)

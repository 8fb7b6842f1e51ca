"""Runs with steps that must not be applied: on one process, under DDP and under FSDP2."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
KINDS = {
    "one": (),
    "ddp": ("--config", "configs/trainer/ddp.yaml", "--trainer.devices", 2),
    "fsdp": ("--config", "configs/trainer/fsdp.yaml", "--trainer.devices", 2),
    "replicas": (
        *("--config", "configs/trainer/fsdp.yaml", "--trainer.devices", 2),
        *("--trainer.strategy.init_args.replicate_size", 2),
    ),
}
SPIKES = ("--model.skip_steps.sigma", 6, "--model.skip_steps.window", 6)


class Outcome(NamedTuple):
    """As of the fixture `polycom`."""

    code: int
    out: str
    err: str


def callback(name: str, **arguments: object) -> dict:
    return {"class_path": f"poisoned_steps.{name}", "init_args": arguments}


@pytest.fixture
def fit(polycom, tiny_config, tmp_path, monkeypatch):
    """Runs `polycom fit` with callbacks of poisoned_steps.py; every rank's digests are kept.

    Several ranks are processes of their own.
    """
    monkeypatch.syspath_prepend(str(HERE))

    def run(version: str, kind: str, callbacks: list[dict], *options: object) -> Outcome:
        overlay = tmp_path / f"{version}.yaml"
        callbacks = [*callbacks, callback("Digests", folder=str(tmp_path / "digests" / version))]
        overlay.write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}), encoding="utf-8")
        arguments = [
            "fit", "--config", tiny_config, *KINDS[kind], "--config", overlay, "--trainer.accelerator", "cpu",
            "--data.micro_batch_size", 2, "--run.version", version, "--checkpoint.keep_last", 0,
            "--model.schedule.name", "constant", *options,
        ]  # fmt: skip
        return polycom(*arguments) if kind == "one" else in_processes(arguments)

    return run


def in_processes(arguments: list[object]) -> Outcome:
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, "-m", "lightning_polycom", *map(str, arguments)],
        capture_output=True, text=True, timeout=300, cwd=ROOT, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )  # fmt: skip
    return Outcome(found.returncode, found.stdout, found.stderr)


@pytest.fixture
def records(tmp_path):
    """Of a version, each rank's digest and host reads by step."""

    def read(version: str, kind: str) -> list[tuple[dict[int, str], dict[int, int]]]:
        files = [tmp_path / "digests" / version / f"rank-{rank}.json" for rank in range(1 if kind == "one" else 2)]
        pairs = [json.loads(path.read_text()) for path in files]
        return [tuple({int(step): value for step, value in found.items()} for found in pair) for pair in pairs]

    return read


def values(run: Path, tag: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[tag] for line in lines if tag in line}


@pytest.mark.parametrize(
    "kind", ["one", pytest.param("ddp", marks=pytest.mark.long), pytest.param("fsdp", marks=pytest.mark.slow)]
)
def test_a_poisoned_step_of_one_rank_is_as_if_undone_on_all(fit, records, tmp_path, kind):
    """Weights, moments and Adam's step: bit for bit those of a run that was put back after the same steps."""
    steps, last_rank = [3, 6], 0 if kind == "one" else 1
    poison = callback("Poison", steps=steps, factor=float("nan"), rank=last_rank, in_gradient=True)
    log = ("--trainer.log_every_n_steps", 4, "--model.skip_steps.sigma", 1000)  # a window, and nothing outside it
    poisoned = fit("poisoned", kind, [poison], *log)
    assert poisoned.code == 0, poisoned.err[-3000:]
    undone = fit("undone", kind, [callback("Undo", steps=steps)], *log)
    assert undone.code == 0, undone.err[-3000:]

    for (found, syncs), (expected, _) in zip(records("poisoned", kind), records("undone", kind), strict=True):
        assert found == expected
        assert [step for step in range(2, 9) if found[step] == found[step - 1]] == steps
        usual = 0 if kind == "one" else 1  # the ranks agree on whether to stop, on the CPU
        assert {step: count for step, count in syncs.items() if step % 4} == dict.fromkeys((1, 2, 3, 5, 6, 7), usual)
        assert syncs[4] > usual  # the counter does count
    runs = tmp_path / "runs/tiny"
    assert values(runs / "poisoned", "train/loss") == values(runs / "undone", "train/loss")
    assert values(runs / "poisoned", "optim/lr") == values(runs / "undone", "optim/lr")
    assert values(runs / "poisoned", "optim/skipped_steps") == {4: 1.0, 8: 2.0}
    assert values(runs / "undone", "optim/skipped_steps") == {4: 0.0, 8: 0.0}
    lines = [line for line in poisoned.out.splitlines() if line.startswith("skipped ")]
    assert [line.split(":")[0] for line in lines] == ["skipped step 3", "skipped step 6"]
    assert all("gradient norm nan, the gradient norm is not finite" in line for line in lines)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["ddp", "replicas"])
def test_ranks_agree_where_one_alone_has_gradients_that_are_not_finite(fit, records, kind):
    poison = callback("PoisonReduced", steps=[3], factor=float("inf"), rank=1)
    outcome = fit("poisoned", kind, [poison])
    assert outcome.code == 0, outcome.err[-3000:]
    found = [digests for digests, _ in records("poisoned", kind)]
    assert [digest[3] == digest[2] and digest[4] != digest[3] for digest in found] == [True, True]
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", ["one", pytest.param("fsdp", marks=pytest.mark.long)])
def test_a_spike_is_skipped_and_a_resume_inside_the_window_changes_no_bit(fit, records, tmp_path, kind):
    poison = [callback("Poison", steps=[6], factor=-300.0, rank=0)]
    settings = (*SPIKES, "--trainer.log_every_n_steps", 1, "--checkpoint.every_n_steps", 5)
    straight = fit("straight", kind, poison, *settings)
    assert straight.code == 0, straight.err[-3000:]
    assert fit("resumed", kind, poison, *settings, "--trainer.max_steps", 5).code == 0
    resumed = fit("resumed", kind, poison, *settings, "--ckpt_path", "auto")
    assert resumed.code == 0, resumed.err[-3000:]
    expected = records("straight", kind)
    for (record, _), (other, _) in zip(expected, records("resumed", kind), strict=True):
        assert [other[step] for step in (6, 7, 8)] == [record[step] for step in (6, 7, 8)]
        assert record[6] == record[5] and record[7] != record[6]
    for version in ("straight", "resumed"):
        counts = values(tmp_path / "runs/tiny" / version, "optim/skipped_steps")
        assert counts == {step: float(step > 5) for step in range(1, 9)}
    assert "skipped step 6: loss " in resumed.out and " is a spike" in resumed.out


@pytest.mark.long
def test_counts_and_window_go_on_on_another_number_of_ranks(fit, tmp_path):
    poison = [callback("Poison", steps=[3], factor=float("nan"))]
    for kind, steps in (("fsdp", 4), ("one", 6), ("fsdp", 8)):
        found = fit("changed", kind, poison, *SPIKES, "--trainer.max_steps", steps, "--ckpt_path", "auto")
        assert found.code == 0, found.err[-3000:]
    assert values(tmp_path / "runs/tiny/changed", "optim/skipped_steps") == {2: 0, 4: 1, 6: 1, 8: 1}
    folder = tmp_path / "runs/tiny/changed/checkpoints/step-00000008.ckpt"
    guard = torch.load(folder / "values.pt", weights_only=True)["step_guard"]
    assert guard["window"].isfinite().all()


@pytest.mark.parametrize("kind", ["one", pytest.param("ddp", marks=pytest.mark.slow)])
def test_too_many_in_a_row_stop_the_run_with_one_line(fit, tmp_path, kind):
    poison = callback("Poison", steps=[2, 4, 5, 6, 7, 8], factor=float("nan"))
    stopped = fit("stopped", kind, [poison], "--model.skip_steps.max_in_a_row", 3)
    assert stopped.code == 2, stopped.err[-3000:]
    errors = [line for line in stopped.err.splitlines() if "polycom: error" in line]
    assert len(errors) == 1 and "Traceback" not in stopped.err
    assert "stopped at step 6, the last 3 steps were all skipped (step 6: loss nan" in errors[0]
    assert "model.optimizer.learning_rate" in errors[0] and "before step 4" in errors[0]
    checkpoints = tmp_path / "runs/tiny/stopped/checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["last.ckpt", "step-00000004.ckpt"]
    weights = torch.load(checkpoints / "last.ckpt", weights_only=True)["state_dict"]
    assert all(weight.isfinite().all() for weight in weights.values())


def test_the_steps_after_the_last_interval_stop_it_too(fit, tmp_path):
    poison = callback("Poison", steps=[7, 8], factor=float("nan"))
    options = ("--trainer.log_every_n_steps", 5, "--checkpoint.every_n_steps", 5)
    outcome = fit("end", "one", [poison], "--model.skip_steps.max_in_a_row", 2, *options)
    assert outcome.code == 2 and "stopped at step 8, the last 2 steps were all skipped" in outcome.err
    assert not (tmp_path / "runs/tiny/end/checkpoints/step-00000008.ckpt").exists()


def test_a_checkpoint_of_before_is_continued(polycom, tiny_config, tmp_path):
    options = ("--run.version", "old", "--model.schedule.name", "constant")
    assert polycom("fit", "--config", tiny_config, *options, "--trainer.max_steps", 4).code == 0
    path = tmp_path / "runs/tiny/old/checkpoints/step-00000004.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["step_guard"], checkpoint["hyper_parameters"]["skip_steps"]
    torch.save(checkpoint, path)
    outcome = polycom("fit", "--config", tiny_config, *options, *SPIKES, "--ckpt_path", "auto")
    assert outcome.code == 0, outcome.err
    assert values(tmp_path / "runs/tiny/old", "optim/skipped_steps")[8] == 0
    guard = torch.load(path.with_name("step-00000008.ckpt"), weights_only=True)["step_guard"]
    assert guard["window"].isfinite().all(1).tolist() == [False] * 2 + [True] * 4


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("sigma", 0, "sigma: found 0"), ("window", 3, "at least 4"), ("max_in_a_row", 0, "at least 1")],
)
def test_impossible_settings_are_refused_in_one_line(polycom, tiny_config, option, value, message):
    outcome = polycom("fit", "--config", tiny_config, f"--model.skip_steps.{option}", value)
    assert outcome.code == 2 and message in outcome.err and outcome.err.strip().count("\n") == 0

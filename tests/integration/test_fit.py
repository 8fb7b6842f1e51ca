"""Whole runs through the command line."""

import json
from pathlib import Path

import pytest
import torch
import yaml

TASKS = ["heldout_continuation"]


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def last_values(run: Path) -> dict[str, float]:
    values: dict[str, float] = {}
    for line in lines(run):
        values |= line
    return values


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return torch.load(run / f"checkpoints/step-{step:08d}.ckpt", weights_only=True)["state_dict"]


def test_a_run_leaves_everything_that_the_design_names(polycom, tiny_config, tmp_path):
    outcome = polycom(
        "fit",
        "--config",
        tiny_config,
        "--evaluation.tasks",
        json.dumps(TASKS),
        "--evaluation.include_path",
        '["data/tasks"]',
    )
    assert outcome.code == 0, outcome.err
    run = tmp_path / "runs/tiny/version_0"
    assert {p.name for p in run.iterdir()} == {
        "config.yaml", "run.json", "metrics.jsonl", "tb", "tokenizer.json", "checkpoints", "evals",
    }  # fmt: skip
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == [
        "last.ckpt", "step-00000004.ckpt", "step-00000008.ckpt",
    ]  # fmt: skip
    assert (run / "checkpoints/last.ckpt").resolve().name == "step-00000008.ckpt"
    assert [p.name for p in sorted((run / "evals").iterdir())] == ["step-00000004.json", "step-00000008.json"]
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished" and record["steps"] == 8
    values = last_values(run)
    for tag in (
        "train/loss", "optim/lr", "optim/grad_norm", "val/loss", "val/code/loss", "val/code/perplexity",
        "val/prose/bits_per_byte", "throughput/tokens_per_second", "throughput/data_wait_fraction", "memory/peak_gib",
        "progress/tokens", "progress/flops", "activation/0/coefficient_1", "activation/1/coefficient_3",
        "activation/1/bias", "eval/heldout_continuation/acc", "eval/heldout_continuation/chance", "eval/average",
    ):  # fmt: skip
        assert tag in values, tag
    assert values["progress/tokens"] == 8 * 4 * 64
    assert values["eval/heldout_continuation/chance"] == 0.25
    for text in ("bits per byte", "heldout_continuation", "chance", "tokens/s", str(run), "polycom evaluate"):
        assert text in outcome.out.replace("\n", ""), text


def test_tensorboard_and_metrics_file_carry_the_same_values(polycom, tiny_config, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert polycom("fit", "--config", tiny_config).code == 0
    run = tmp_path / "runs/tiny/version_0"
    events = EventAccumulator(str(run / "tb"))
    events.Reload()
    for tag in ("train/loss", "val/code/loss", "activation/0/coefficient_2", "optim/grad_norm"):
        from_file = [(line["step"], line[tag]) for line in lines(run) if tag in line]
        from_events = [(event.step, event.value) for event in events.Scalars(tag)]
        assert [s for s, _ in from_events] == [s for s, _ in from_file] and from_file
        assert [v for _, v in from_events] == pytest.approx([v for _, v in from_file])
    assert [line["step"] for line in lines(run) if "train/loss" in line] == [2, 4, 6, 8]


def test_the_loss_falls(polycom, tiny_config, tmp_path):
    assert polycom("fit", "--config", tiny_config, "--trainer.max_steps", 60).code == 0
    losses = [line["train/loss"] for line in lines(tmp_path / "runs/tiny/version_0") if "train/loss" in line]
    assert losses[-1] < losses[0] - 0.8


def test_a_resumed_run_ends_with_the_same_bits(polycom, tiny_config, tmp_path):
    assert polycom("fit", "--config", tiny_config).code == 0
    assert polycom("fit", "--config", tiny_config, "--run.version", "stopped").code == 0
    stopped = tmp_path / "runs/tiny/stopped"
    (stopped / "checkpoints/step-00000008.ckpt").unlink()
    outcome = polycom("fit", "--config", tiny_config, "--ckpt_path", stopped / "checkpoints/step-00000004.ckpt")
    assert outcome.code == 0, outcome.err
    straight, resumed = weights(tmp_path / "runs/tiny/version_0", 8), weights(stopped, 8)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    of_both = [
        [(n["step"], n["train/loss"]) for n in lines(r) if "train/loss" in n]
        for r in (tmp_path / "runs/tiny/version_0", stopped)
    ]
    assert of_both[0] == of_both[1]


def test_micro_batches_equal_the_large_batch(polycom, tiny_config, tmp_path):
    assert polycom("fit", "--config", tiny_config, "--run.version", "large").code == 0
    assert polycom("fit", "--config", tiny_config, "--run.version", "small", "--data.micro_batch_size", 1).code == 0
    large, small = (lines(tmp_path / "runs/tiny" / name) for name in ("large", "small"))
    for tag in ("train/loss", "optim/grad_norm", "val/loss", "activation/1/coefficient_1"):
        pairs = [[(n["step"], n[tag]) for n in of if tag in n] for of in (large, small)]
        assert [s for s, _ in pairs[0]] == [s for s, _ in pairs[1]]
        assert [v for _, v in pairs[0]] == pytest.approx([v for _, v in pairs[1]], rel=2e-5)


def test_the_saved_config_repeats_the_run(polycom, tiny_config, tmp_path):
    assert polycom("fit", "--config", tiny_config, "--model.decoder.activation.name", "geglu").code == 0
    saved = tmp_path / "runs/tiny/version_0/config.yaml"
    config = yaml.safe_load(saved.read_text())
    assert config["model"]["decoder"]["activation"]["name"] == "geglu"
    assert config["model"]["seed"] == 7 and config["model"]["decoder"]["max_sequence_length"] == 64
    outcome = polycom("fit", "--config", saved)
    assert outcome.code == 0, outcome.err
    first, second = weights(tmp_path / "runs/tiny/version_0", 8), weights(tmp_path / "runs/tiny/version_1", 8)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", ["relu", "relu2", "gelu", "silu", "swiglu", "polyrelu"])
def test_every_activation_trains_by_one_override(polycom, tiny_config, tmp_path, name):
    outcome = polycom("fit", "--config", tiny_config, "--model.decoder.activation.name", name, "--trainer.max_steps", 4)
    assert outcome.code == 0, outcome.err
    assert last_values(tmp_path / "runs/tiny/version_0")["val/loss"] < 6.6


def test_bf16_mixed_trains(polycom, tiny_config, tmp_path):
    outcome = polycom("fit", "--config", tiny_config, "--trainer.precision", "bf16-mixed")
    assert outcome.code == 0, outcome.err
    assert all(w.dtype == torch.float32 for w in weights(tmp_path / "runs/tiny/version_0", 8).values())


def test_a_run_without_a_precision_gets_the_machines_and_keeps_it(polycom, tiny_config, tmp_path, monkeypatch):
    options = ("fit", "--config", tiny_config, "--trainer.precision=null")
    run = tmp_path / "runs" / "tiny" / "version_0"
    for machine, steps, extra in (("bf16-mixed", 4, ()), ("32-true", 6, ("--ckpt_path", run))):
        monkeypatch.setattr("lightning_polycom.commands.fit.default_precision", lambda _, m=machine: (m, "so it is"))
        outcome = polycom(*options, f"--trainer.max_steps={steps}", *extra)
        assert outcome.code == 0, outcome.err
        reason = "as in the checkpoint's run" if extra else "so it is"
        assert f"precision: bf16-mixed, {reason}; trainer.precision chooses another" in outcome.out
        assert json.loads((run / "run.json").read_text())["precision"] == "bf16-mixed"
        assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"] == "bf16-mixed"


def test_training_length_in_tokens(polycom, tiny_config, tmp_path):
    outcome = polycom("fit", "--config", tiny_config, "--trainer.max_steps", -1, "--data.max_tokens", 6 * 4 * 64 - 5)
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "runs/tiny/version_0/run.json").read_text())["steps"] == 6


def test_evaluation_leaves_training_as_it_was(polycom, tiny_config, tmp_path):
    options = ("--evaluation.tasks", json.dumps(TASKS), "--evaluation.include_path", '["data/tasks"]')
    assert polycom("fit", "--config", tiny_config, "--run.version", "without").code == 0
    every_step = ("--evaluation.every_n_steps", 1, "--evaluation.limit", 2)
    assert polycom("fit", "--config", tiny_config, "--run.version", "with", *options, *every_step).code == 0
    runs = tmp_path / "runs/tiny"
    assert len(list((runs / "with/evals").iterdir())) == 8
    first, second = weights(runs / "without", 8), weights(runs / "with", 8)
    assert all(torch.equal(first[name], second[name]) for name in first)
    curves = [
        [line.get("train/loss") for line in lines(runs / run) if "train/loss" in line] for run in ("with", "without")
    ]
    assert curves[0] == curves[1] and len(curves[0]) == 4


def test_a_finished_run_goes_on_with_more_steps(polycom, tiny_config, tmp_path):
    options = ("--model.schedule.name", "constant", "--data.micro_batch_size", 2)
    assert (
        polycom("fit", "--config", tiny_config, *options, "--trainer.max_steps", 5, "--run.version", "long").code == 0
    )
    run = tmp_path / "runs/tiny/long"
    longer = polycom("fit", "--config", tiny_config, *options, "--trainer.max_steps", 9, "--ckpt_path", run)
    assert longer.code == 0, longer.err
    straight = polycom("fit", "--config", tiny_config, *options, "--trainer.max_steps", 9, "--run.version", "straight")
    assert straight.code == 0, straight.err
    first, second = weights(run, 9), weights(tmp_path / "runs/tiny/straight", 9)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_stock_tasks_by_name_from_offline_copies(polycom, tiny_config, tmp_path, shared):
    options = (
        "--evaluation.tasks", '["polycom_six_offline"]', "--evaluation.limit", 3,
        "--evaluation.include_path", json.dumps([str(shared / "lm_eval/tasks_offline")]),
        "--data.sequence_length", 512, "--trainer.max_steps", 4,
    )  # fmt: skip
    outcome = polycom("fit", "--config", tiny_config, *options)
    assert outcome.code == 0, outcome.err
    values = last_values(tmp_path / "runs/tiny/version_0")
    for task in ("arc_easy", "arc_challenge", "hellaswag", "piqa", "sciq", "winogrande"):
        assert 0 <= values[f"eval/{task}/acc"] <= 1
        assert values[f"eval/{task}/chance"] == pytest.approx(0.5 if task in ("piqa", "winogrande") else 0.25, abs=0.03)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.zst", "parquet"])
def test_prepared_files_of_every_kind_train_with_a_tokenizer_of_ones_own(
    polycom, tiny_config, tmp_path, shared, suffix
):
    output, source = tmp_path / "web", shared / f"corpora/formats/web_val.{suffix}"
    prepared = polycom(
        "prepare", "--output", output, "--sources", json.dumps([f"web={source}"]),
        "--tokenizer", shared / "tokenizers/bpe-1024.json", "--id_column", "id",
    )  # fmt: skip
    assert prepared.code == 0, prepared.err
    outcome = polycom(
        "fit",
        "--config",
        tiny_config,
        "--data.folder",
        output,
        "--model.decoder.vocab_size",
        1024,
        "--trainer.max_steps",
        4,
    )
    assert outcome.code == 0, outcome.err
    assert "val/web/bits_per_byte" in last_values(tmp_path / "runs/tiny/version_0")

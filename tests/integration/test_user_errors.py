"""Every mistake of a user gives one line that names the file or key and the remedy, exit code 2, nothing written."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml


def refused(outcome, *parts: str) -> None:
    assert outcome.code == 2, outcome
    lines = outcome.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("polycom: error: "), outcome.err
    for part in parts:
        assert part in lines[0], lines[0]


@pytest.mark.parametrize(
    ("option", "value", "parts"),
    [
        ("--model.decoder.hiden_size", 5, ["hiden_size", "did you mean 'model.decoder.hidden_size'"]),
        ("--model.decoder.hidden_size", "wide", ["model.decoder.hidden_size", "wide"]),
        ("--model.decoder.activation.name", "polynrom", ["unknown activation 'polynrom'", "polynorm"]),
        ("--model.decoder.activation.order", 7, ["activation.order: found 7"]),
        ("--model.decoder.num_heads", 3, ["decoder.num_heads", "32"]),
        ("--model.decoder.vocab_size", 300, ["decoder.vocab_size: 300", "tokenizer.json", "600"]),
        ("--data.folder", "no/such/folder", ["no/such/folder", "polycom prepare"]),
        ("--data.dtype", "uint16", ["data.dtype"]),
        ("--data.micro_batch_size", 3, ["data.global_batch_size: 4", "micro_batch_size 3"]),
        ("--data.sequence_length", 10_000_000, ["data.sequence_length"]),
        ("--ckpt_path", "no/such.ckpt", ["no/such.ckpt does not exist"]),
        ("--evaluation.tasks", '["arc_eazy"]', ["arc_eazy", "arc_easy"]),
        ("--trainer.max_steps", -1, ["schedule", "trainer.max_steps"]),
        ("--config", "configs/none.yaml", ["configs/none.yaml"]),
        ("--trainer.accelerator", "gpu", ["trainer: ", "gpu"]),
        ("--run.root", "/proc/nowhere", ["/proc/nowhere"]),
        ("--model.optimizer.learning_rate", -1, ["optimizer.learning_rate: found -1"]),
        ("--model.optimizer.betas", "[0.9, 1.5]", ["optimizer.betas"]),
        ("--model.schedule.final_fraction", 2, ["schedule.final_fraction: found 2"]),
        ("--model.schedule.warmup_steps", -5, ["schedule.warmup_steps: found -5"]),
        ("--checkpoint.every_n_steps", 0, ["checkpoint.every_n_steps: found 0"]),
        ("--evaluation.limit", "many", ["evaluation.limit", "many"]),
        ("--evaluation.limit", 0, ["evaluation.limit: found 0"]),
        ("--trainer.gradient_clip_val", -1, ["trainer.gradient_clip_val: found -1"]),
        ("--trainer.gradient_clip_algorithm", "value", ["trainer.gradient_clip_algorithm: found 'value'"]),
        ("--trainer.precision", "16-true", ["trainer.precision: found 16-true; use 32-true or bf16-mixed"]),
        ("--trainer.precision", "16-mixed", ["trainer.precision: found 16-mixed; use 32-true or bf16-mixed"]),
        ("--trainer.strategy", "nonsense", ["trainer: ", "nonsense"]),
        (
            "--trainer.accumulate_grad_batches",
            2,
            ["trainer.accumulate_grad_batches: found 2", "data.global_batch_size"],
        ),
        ("--trainer.val_check_interval", 0, ["trainer.val_check_interval: found 0"]),
        ("--trainer.log_every_n_steps", 0, ["trainer.log_every_n_steps: found 0"]),
        ("--data.max_validation_tokens", -1, ["data.max_validation_tokens: found -1"]),
        ("--data.fold", "x", ["data.fold"]),
        ("--model.decoder.num_key_value_heads", -1, ["decoder.num_key_value_heads: found -1"]),
        ("--model.decoder.activation.name", ".relu", ["cannot import '.relu'"]),
        ("--model.decoder.activation.eps", -1, ["activation.eps: found -1"]),
        ("--model.decoder.max_sequence_length", 32, ["data.sequence_length: 64 exceeds"]),
        ("--ckpt_path", "", ["ckpt_path"]),
    ],
)
def test_fit_refuses_in_one_line(polycom, tiny_config, tmp_path, option, value, parts):
    refused(polycom("fit", "--config", tiny_config, option, value), *parts)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("--model.decoder.vocab_size", 300, "decoder.vocab_size: 300"),
        ("--data.sequence_length", 10**7, "sequence_length"),
    ],
)
def test_the_dry_run_refuses_what_the_run_would(polycom, tiny_config, option, value, part):
    refused(polycom("fit", "--config", tiny_config, "--dry_run", option, value), part)


@pytest.mark.slow
def test_text_that_one_of_two_processes_cannot_prepare_is_one_line(tiny_config, tmp_path):
    """The other process waits for it, and must not end with a traceback of its own."""
    (tmp_path / "broken.jsonl").write_text('{"text": "a"}\n{broken\n')
    command = [
        *(sys.executable, "-m", "lightning_polycom", "fit", "--config", tiny_config),
        *("--trainer.strategy", "ddp", "--trainer.devices", "2", "--data.micro_batch_size", "1"),
        *("--data.folder", tmp_path / "out", "--data.prepare.sources", tmp_path / "broken.jsonl"),
    ]
    outcome = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path)
    assert outcome.returncode == 2
    assert [line for line in outcome.stderr.splitlines() if "error" in line.lower()] == [
        line for line in outcome.stderr.splitlines() if "broken.jsonl: line 2 is no valid JSON" in line
    ]
    assert "broken.jsonl: line 2" in outcome.stderr and "Traceback" not in outcome.stderr


def test_a_misspelt_section_without_keys_is_seen(polycom, tiny_config):
    values = yaml.safe_load(tiny_config.read_text())
    values["modle"] = {}
    tiny_config.write_text(yaml.safe_dump(values))
    refused(polycom("fit", "--config", tiny_config), "modle", str(tiny_config))


def test_a_misspelt_key_in_yaml_names_the_nearest(polycom, tiny_config):
    values = yaml.safe_load(tiny_config.read_text())
    values["model"]["optimizer"] = {"learning_rat": 0.1}
    tiny_config.write_text(yaml.safe_dump(values))
    refused(polycom("fit", "--config", tiny_config), "learning_rat", "did you mean 'model.optimizer.learning_rate'")


def test_a_broken_reference_in_yaml(polycom, tiny_config):
    values = yaml.safe_load(tiny_config.read_text())
    values["model"]["seed"] = "${nope}"
    tiny_config.write_text(yaml.safe_dump(values))
    refused(polycom("fit", "--config", tiny_config), "nope")


@pytest.fixture
def damaged(prepared, tmp_path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "damaged"))


def test_a_missing_shard(polycom, tiny_config, damaged):
    shard = next((damaged / "train").glob("*.bin"))
    shard.unlink()
    refused(polycom("fit", "--config", tiny_config, "--data.folder", damaged), shard.name, "prepare")


def test_a_truncated_shard(polycom, tiny_config, damaged):
    shard = next((damaged / "train").glob("*.bin"))
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:-10])
    refused(polycom("fit", "--config", tiny_config, "--data.folder", damaged), shard.name, str(size), str(size - 10))


def test_a_tokenizer_that_is_not_the_shards(polycom, tiny_config, damaged):
    tokenizer = damaged / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + "\n")
    refused(polycom("fit", "--config", tiny_config, "--data.folder", damaged), "tokenizer.json", "SHA-256")


def test_checkpoints_of_something_else(polycom, tiny_config, tmp_path):
    assert polycom("fit", "--config", tiny_config).code == 0
    run = tmp_path / "runs/tiny/version_0"
    refused(polycom("fit", "--config", tiny_config, "--ckpt_path", run), "is at step 8 and training ends at 8")
    tiny_config.write_text(tiny_config.read_text().replace("max_steps: 8", "max_steps: 12"))
    outcome = polycom("fit", "--config", tiny_config, "--ckpt_path", run, "--model.decoder.num_layers", 3)
    refused(outcome, "another decoder", "num_layers 2 (here 3)")
    weights_only = torch.load(run / "checkpoints/step-00000008.ckpt", weights_only=True)
    del weights_only["optimizer_states"]
    torch.save(weights_only, tmp_path / "weights.ckpt")
    refused(polycom("fit", "--config", tiny_config, "--ckpt_path", tmp_path / "weights.ckpt"), "lacks optimizer_states")
    refused(polycom("fit", "--config", tiny_config, "--run.version", "version_0"), "holds a run")
    refused(polycom("validate", "--config", tiny_config), "ckpt_path")
    other_seed = polycom("fit", "--config", tiny_config, "--ckpt_path", run, "--data.seed", 8)
    refused(other_seed, "the checkpoint was trained on seed 1234, this run has 8")
    checkpoint = run / "checkpoints/step-00000008.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    for command in (
        ("evaluate", checkpoint),
        ("generate", checkpoint),
        ("fit", "--config", tiny_config, "--ckpt_path", checkpoint),
    ):
        refused(polycom(*command), checkpoint.name, "truncated")
    refused(polycom("generate", tmp_path / "nothing"), "does not exist")


def test_a_pickle_is_not_executed(polycom, tmp_path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"hyper_parameters": Payload()}, tmp_path / "bad.ckpt")
    refused(polycom("generate", tmp_path / "bad.ckpt"), "bad.ckpt is refused")
    assert not (tmp_path / "executed").exists()


def test_unknown_commands_and_options(polycom):
    refused(polycom("fitt"), "unknown command 'fitt'; did you mean 'fit'?")
    refused(polycom("prepare", "--output", "x", "--vocab_siz", 600), "nrecognized", "vocab_siz")
    refused(polycom("generate"), "checkpoint")
    refused(polycom("prepare", "--output", "/proc/nowhere"), "/proc")


@pytest.mark.slow
def test_evaluate_and_generate_refuse_bad_values(polycom, tiny_config, tmp_path):
    assert polycom("fit", "--config", tiny_config, "--trainer.max_steps", 4).code == 0
    run = tmp_path / "runs/tiny/version_0"
    refused(polycom("evaluate", run), "evaluation.tasks", "--tasks")
    refused(polycom("evaluate", run, "--tasks", "heldout_continuaton", "--include_path", "data/tasks"), "continuation")
    refused(polycom("evaluate", run, "--tasks", "arc_easy", "--device", "abacus"), "device: cannot use 'abacus'")
    refused(polycom("evaluate", run, "--tasks", "arc_easy", "--precision", "fp8"), "precision", "fp8")
    refused(polycom("generate", run, "--temperature", -1), "temperature: found -1")
    refused(polycom("generate", run, "--top_p", 1.5), "top_p: found 1.5")
    refused(polycom("generate", run, "--max_new_tokens", 0), "max_new_tokens: found 0")

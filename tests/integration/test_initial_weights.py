"""Training that begins from a Llama folder that transformers has saved, and from checkpoints."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from fit_on_ranks import fit_on_ranks

from lightning_polycom.checkpoints.sharded import read_joined
from lightning_polycom.training.module import LanguageModel

LLAMA = {
    "vocab_size": 600, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "eos_token_id": 0,
}  # fmt: skip
STILL = ("--model.optimizer.learning_rate", 0, "--trainer.max_steps", 1)


@pytest.fixture
def llama(tmp_path, prepared) -> tuple[Path, torch.nn.Module]:
    """A folder of a Llama with random weights, and the model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    model = LlamaForCausalLM(LlamaConfig(**LLAMA)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "llama")
    (tmp_path / "llama/tokenizer.json").write_bytes((prepared / "tokenizer.json").read_bytes())
    return tmp_path / "llama", model


@pytest.fixture
def config(tiny_config) -> Path:
    """The tiny run with the Llama's shape; what says how weights are drawn, or rounds to the same width, may differ."""
    values = yaml.safe_load(tiny_config.read_text())
    shape = {"intermediate_size": 64, "num_key_value_heads": 1, "norm_eps": 1e-6, "activation": {"name": "swiglu"}}
    values["model"]["decoder"] |= {**shape, "initialization": {"distribution": "truncated_normal"}}
    values["model"]["schedule"] = {"name": "constant", "warmup_steps": 0}
    values["trainer"] |= {"max_steps": 3, "val_check_interval": 1, "log_every_n_steps": 1}
    values["checkpoint"] = {"every_n_steps": 1, "keep_last": 0}
    tiny_config.write_text(yaml.safe_dump(values))
    return tiny_config


def values(run: Path, tag: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[tag] for line in lines if tag in line}


def saved(run: Path, step: int) -> dict:
    path = run / f"checkpoints/step-{step:08d}.ckpt"
    return read_joined(path, with_optimizer=True) if path.is_dir() else torch.load(path, weights_only=True)


def assert_same_weights(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_first_losses_are_those_of_the_given_model(polycom, config, llama, tmp_path, monkeypatch):
    folder, model = llama
    batches: dict[int, list] = {}
    validation_step = LanguageModel.validation_step

    def recorded(self, batch, batch_idx, dataloader_idx=0):
        batches.setdefault(dataloader_idx, []).append(batch)
        return validation_step(self, batch, batch_idx, dataloader_idx)

    monkeypatch.setattr(LanguageModel, "validation_step", recorded)
    planned = polycom("fit", "--config", config, "--model.initial_weights", folder, "--dry_run")
    assert planned.code == 0 and "initial weights" in planned.out, planned.err
    outcome = polycom("fit", "--config", config, "--model.initial_weights", folder, *STILL, "--run.version", "still")
    assert outcome.code == 0, outcome.err
    run = tmp_path / "runs/tiny/still"
    for number, domain in enumerate(("code", "prose")):
        with torch.no_grad():
            parts = [(model(b["input_ids"]).logits.flatten(0, 1), b["labels"].flatten()) for b in batches[number]]
        expected = torch.nn.functional.cross_entropy(*map(torch.cat, zip(*parts, strict=True)))
        assert values(run, f"val/{domain}/loss")[1] == pytest.approx(expected.item(), rel=1e-5)
    kept = saved(run, 1)
    assert torch.equal(kept["state_dict"]["decoder.head.weight"], model.lm_head.weight)
    assert kept["optimizer_states"][0]["state"][0]["step"] == 1
    record, settings = json.loads((run / "run.json").read_text()), yaml.safe_load((run / "config.yaml").read_text())
    assert record["initial_weights"] == settings["model"]["initial_weights"] == str(folder)

    imported = polycom("import", folder, "--output", tmp_path / "runs/given/imported")
    assert imported.code == 0, imported.err
    for number, path in enumerate((tmp_path / "runs/given", run / "checkpoints/step-00000001.ckpt")):
        version = f"again-{number}"
        files = ("--config", config, "--config", tmp_path / "runs/given/imported/config.yaml")
        outcome = polycom("fit", *files, "--model.initial_weights", path, *STILL, "--run.version", version)
        assert outcome.code == 0, outcome.err
        assert_same_weights(saved(tmp_path / "runs/tiny" / version, 1)["state_dict"], kept["state_dict"])
    record = json.loads((tmp_path / "runs/tiny/again-0/run.json").read_text())
    assert record["initial_weights"] == str(tmp_path / "runs/given/imported/checkpoints/step-00000000.ckpt")


def test_a_resumed_run_does_not_read_them_again(polycom, config, llama, tmp_path):
    folder, _ = llama
    given = ("fit", "--config", config, "--model.initial_weights", folder)
    assert polycom(*given, "--run.version", "straight").code == 0
    auto = (*given, "--run.version", "stopped", "--ckpt_path", "auto")
    assert polycom(*auto, "--trainer.max_steps", 2).code == 0
    shutil.rmtree(folder)
    outcome = polycom(*auto)
    assert outcome.code == 0, outcome.err
    straight, stopped = (tmp_path / "runs/tiny" / name for name in ("straight", "stopped"))
    assert_same_weights(saved(straight, 3)["state_dict"], saved(stopped, 3)["state_dict"])
    assert json.loads((stopped / "run.json").read_text())["initial_weights"] == str(folder)
    without = polycom("fit", "--config", config, "--ckpt_path", stopped, "--trainer.max_steps", 4)
    assert without.code == 0, without.err
    assert json.loads((stopped / "run.json").read_text())["initial_weights"] == str(folder)


@pytest.mark.long
def test_two_sharded_processes_equal_one(polycom, config, llama, tmp_path):
    folder, runs = llama[0], tmp_path / "runs/tiny"
    given = ("--model.initial_weights", folder)
    assert polycom("fit", "--config", config, *given, "--run.version", "one").code == 0
    halves = ("--data.micro_batch_size", 2)
    starts = [
        ("fsdp", (*halves, *given, "--run.version", "two"), {}),
        ("fsdp", (*halves, *STILL, "--model.initial_weights", runs / "two", "--run.version", "from-shards"), {}),
        ("fsdp", (*halves, *STILL, "--model.initial_weights", runs / "one", "--run.version", "from-file"), {}),
        ("ddp", (*halves, *STILL, "--model.initial_weights", runs / "two", "--run.version", "ddp"), {}),
    ]
    codes, out = fit_on_ranks(tmp_path, config, starts)
    assert codes == [[0, 0]] * 4, out
    for tag in ("train/loss", "val/loss", "optim/grad_norm"):
        one, two = values(runs / "one", tag), values(runs / "two", tag)
        assert list(one) == list(two) == [1, 2, 3]
        assert list(two.values()) == pytest.approx(list(one.values()), rel=1e-5), tag
    assert (runs / "from-shards/checkpoints/step-00000001.ckpt").is_dir()
    for version, source in (("from-shards", "two"), ("from-file", "one"), ("ddp", "two")):
        assert_same_weights(saved(runs / version, 1)["state_dict"], saved(runs / source, 3)["state_dict"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model.initial_weights", "runs/nothing"), "model.initial_weights: runs/nothing does not exist"),
        (
            ("--model.decoder.num_layers", 3, "--model.decoder.intermediate_size", 96),
            "is of another decoder: intermediate_size 60 (here 96), num_layers 2 (here 3); give model.decoder",
        ),
        (("--model.decoder.activation.name", "geglu"), "activation.name swiglu (here geglu)"),
        (("--model.decoder.vocab_size", 601), "vocab_size 600 (here 601)"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(polycom, config, llama, tmp_path, options, words):
    for plan in ((), ("--dry_run",)):
        outcome = polycom("fit", "--config", config, "--model.initial_weights", llama[0], *options, *plan)
        assert outcome.code == 2 and words in outcome.err and "Traceback" not in outcome.err
        assert len(outcome.err.strip().splitlines()) == 1 and not (tmp_path / "runs").exists()


def test_damaged_weights_are_refused(polycom, config, llama):
    folder = llama[0]
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    outcome = polycom("fit", "--config", config, "--model.initial_weights", folder)
    assert outcome.code == 2 and f"model.initial_weights: {file} is damaged" in outcome.err
    torch.save({"weights": torch.zeros(2)}, folder / "other.ckpt")
    outcome = polycom("fit", "--config", config, "--model.initial_weights", folder / "other.ckpt")
    assert outcome.code == 2 and "other.ckpt was not written by polycom fit" in outcome.err

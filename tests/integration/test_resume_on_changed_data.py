"""A run resumes on the data it had, or says in words what changed, and goes on only where that is allowed."""

import json
import shutil

import numpy as np
import pytest
import torch

from lightning_polycom.data import SampleOrder, open_shards
from lightning_polycom.data.shard_selection import ShardSelection
from lightning_polycom.data.training_data import TrainingData


@pytest.fixture
def files(prepared, tmp_path):
    """Training domains `a` and `b` and the validation domain `v` as raw ids, and a copy of their tokenizer."""
    for name, (split, domain) in {"a": ("train", "code"), "b": ("train", "prose"), "v": ("validation", "code")}.items():
        shards = open_shards(prepared, split, domain)
        shards.read(0, shards.num_tokens).tofile(tmp_path / f"{name}.bin")
    shutil.copy(prepared / "tokenizer.json", tmp_path)
    return tmp_path


@pytest.fixture
def fit(polycom, tiny_config, files):
    """Trains to a step, from the newest checkpoint of `version` if there is one."""

    def run(version, steps, *options, **settings):
        train = settings.get("train", {name: f"{files}/{name}.bin" for name in "ab"})
        validation = settings.get("validation", {"v": f"{files}/v.bin"})
        folder = files / "runs/tiny" / version
        named = (
            "--data.folder", "null", "--data.train", json.dumps(train), "--data.validation", json.dumps(validation),
            "--data.tokenizer", files / "tokenizer.json", "--data.dtype", "uint16",
        )  # fmt: skip
        every = ("--checkpoint.every_n_steps", 2, "--trainer.val_check_interval", 2, "--trainer.max_steps", steps)
        resumed = ("--ckpt_path", folder) if folder.exists() else ()
        recorder = {"class_path": "stream_recorder.StreamRecorder", "init_args": {"folder": f"{files}/records"}}
        schedule = ("--model.schedule.name", "constant", "--trainer.callbacks", json.dumps([recorder]))
        return polycom(
            "fit", "--config", tiny_config, "--run.version", version, *every, *schedule, *named, *resumed, *options
        )

    return run


def trained_on(files, steps):
    """The windows of the latest start's steps."""
    lines = (files / "records/straight/rank-0.jsonl").read_text().splitlines()
    return [window for line in map(json.loads, lines) if line["step"] in steps for window in line["windows"]]


def state(files, version, step):
    path = files / f"runs/tiny/{version}/checkpoints/step-{step:08d}.ckpt"
    return torch.load(path, weights_only=True)["TokenDataModule"]


def refused(outcome, message):
    assert outcome.code == 2 and message in outcome.err and len(outcome.err.strip().splitlines()) == 1, outcome


def test_changed_data_is_refused_in_words_and_used_where_allowed(fit, files):
    assert fit("run", 2).code == 0
    content = (files / "b.bin").read_bytes()
    tokens = len(content) // 2
    (files / "b.bin").write_bytes(content + content[:200])
    refused(fit("run", 4), f"data: train domain 'b' had {tokens:,} tokens, now {tokens + 100:,}, in a=")
    refused(fit("run", 4, train={"a": f"{files}/a.bin"}), f"train domain 'b' is gone ({tokens:,} tokens)")
    outcome = fit("run", 4, "--data.allow_changed_data", "true")
    assert outcome.code == 0, outcome.err
    line = f"data: changed from sample 8 on: train domain 'b' had {tokens:,} tokens, now {tokens + 100:,}"
    assert outcome.out.splitlines().count(line) == 1
    record = json.loads((files / "runs/tiny/run/run.json").read_text())
    assert [change["from_sample"] for change in record["data_changes"]] == [8]
    kept = state(files, "run", 4)
    assert kept["samples"] == 16 and kept["data_changes"][0][:2] == [8, state(files, "run", 2)["fingerprint"]]
    named = {name: f"{files}/{name}.bin" for name in "ab"}
    data = TrainingData(ShardSelection(train=named, tokenizer=str(files / "tokenizer.json"), dtype="uint16"))
    order = SampleOrder((data.train_shards.num_tokens - 1) // 64, 1234, data.fingerprint)
    expected = data.train_shards.read_batch(order.indices(8, 8) * 64, 65).tolist()
    assert trained_on(files, [2, 3]) == expected  # the new data's stream, at the position
    # From there on the new data is the run's own.
    outcome = fit("run", 6)
    assert outcome.code == 0 and "changed from" not in outcome.out, outcome.err
    assert state(files, "run", 6)["data_changes"] == kept["data_changes"]
    (files / "b.bin").write_bytes(content)
    outcome = fit("run", 8, "--data.allow_changed_data", "true")
    assert outcome.code == 0 and "data: changed from sample 24 on" in outcome.out
    assert [change[0] for change in state(files, "run", 8)["data_changes"]] == [8, 24]


def test_validation_domains_may_come_and_go_but_not_change(fit, files):
    shutil.copy(files / "v.bin", files / "w.bin")
    assert fit("run", 2).code == 0
    assert fit("run", 4, validation={name: f"{files}/{name}.bin" for name in "vw"}).code == 0
    only = {"w": f"{files}/w.bin"}
    assert fit("run", 6, validation=only).code == 0
    ids = np.fromfile(files / "w.bin", "<u2")
    ids[0] ^= 1
    ids.tofile(files / "w.bin")
    refused(
        fit("run", 8, validation=only),
        f"data: validation domain 'w' has other contents ({len(ids):,} tokens as before), in a=",
    )
    assert fit("run", 8).code == 0


def test_another_tokenizer_or_end_of_text_is_never_allowed(fit, files):
    assert fit("run", 2).code == 0
    allowed = ("--data.allow_changed_data", "true")
    refused(fit("run", 4, *allowed, "--data.seed", 8), "the checkpoint was trained on seed 1234, this run has 8")
    shorter = ("--data.sequence_length", 32, "--model.decoder.max_sequence_length", 64)
    refused(fit("run", 4, *allowed, *shorter), "sequence_length 64, this run has 32")
    text = json.loads((files / "tokenizer.json").read_text())
    last = max(text["model"]["vocab"].items(), key=lambda item: item[1])[0]
    refused(fit("run", 4, *allowed, "--data.eos_token", last), f"and {last!r}; use shards of the run's tokenizer.json")
    (files / "tokenizer.json").write_text((files / "tokenizer.json").read_text() + "\n")
    refused(fit("run", 4, *allowed), "data: the checkpoint was trained with tokenizer ")


def test_a_prepared_folder_names_its_domains_and_an_old_checkpoint_its_fingerprint(
    polycom, tiny_config, tmp_path, prepared
):
    from lightning_polycom.data import Manifest, PrepareConfig, prepare

    config = PrepareConfig(
        sources=[f"code={prepared.parent}/code.jsonl"], tokenizer=str(prepared / "tokenizer.json"),
        validation_fraction=0.1, questions_per_domain=0,
    )  # fmt: skip
    prepare(config, tmp_path / "less")
    assert polycom("fit", "--config", tiny_config, "--trainer.max_steps", 4).code == 0
    run = tmp_path / "runs/tiny/version_0"
    arguments = ("fit", "--config", tiny_config, "--ckpt_path", run, "--data.folder", tmp_path / "less")
    outcome = polycom(*arguments)
    refused(outcome, "train domain 'prose' is gone")
    assert "validation domain 'prose' is gone" in outcome.err and "'code'" not in outcome.err
    path = run / "checkpoints/step-00000004.ckpt"
    old = torch.load(path, weights_only=True)
    for key in ("domains", "data_changes", "eos_token"):
        del old["TokenDataModule"][key]
    torch.save(old, path)
    now, before = (Manifest.load(folder).fingerprint for folder in (tmp_path / "less", prepared))
    refused(polycom(*arguments), f"the checkpoint was trained on fingerprint {before}, this run has {now}")
    outcome = polycom("fit", "--config", tiny_config, "--ckpt_path", run)
    assert outcome.code == 0, outcome.err

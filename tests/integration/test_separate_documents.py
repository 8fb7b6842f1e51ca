"""Whole runs with documents kept apart: any split and two ranks give the same losses, and a resume the same bits."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import functional as F

from lightning_polycom.checkpoints import load_decoder
from lightning_polycom.data import Manifest, PrepareConfig, SampleOrder, open_shards, prepare
from lightning_polycom.data.batches import BatchPlan, TrainingStream, ValidationWindows

ROOT = Path(__file__).parents[2]
APART = ("--data.separate_documents", "true", "--trainer.log_every_n_steps", 1)
TAGS = ("train/loss", "optim/grad_norm", "val/paragraphs/loss", "val/paragraphs/bits_per_byte", "val/loss")


def values(run: Path, tag: str) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line[tag]) for line in lines if tag in line]


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return torch.load(run / f"checkpoints/step-{step:08d}.ckpt", weights_only=True)["state_dict"]


def close(one: Path, other: Path) -> None:
    for tag in TAGS:
        first, second = values(one, tag), values(other, tag)
        assert [step for step, _ in first] == [step for step, _ in second] and first
        assert [v for _, v in second] == pytest.approx([v for _, v in first], rel=1e-4), tag


@pytest.fixture(scope="module")
def paragraphs(tmp_path_factory) -> Path:
    """Shards of one domain of short documents, several in a window of 64 tokens: paragraphs of Python's help topics."""
    from pydoc_data.topics import topics

    folder = tmp_path_factory.mktemp("paragraphs")
    texts = [text for topic in topics.values() for text in topic.split("\n\n") if 20 < len(text) < 120]
    rows = [json.dumps({"id": str(number), "text": text}) for number, text in enumerate(texts)]
    (folder / "paragraphs.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    prepare(PrepareConfig(sources=[str(folder / "paragraphs.jsonl")], vocab_size=500), folder / "shards")
    shards = open_shards(folder / "shards")
    assert shards.num_tokens / shards.num_documents < 40
    return folder / "shards"


@pytest.fixture
def config(tiny_config, paragraphs) -> Path:
    """The tiny run on the short documents."""
    values = yaml.safe_load(tiny_config.read_text())
    values["data"]["folder"] = str(paragraphs)
    tiny_config.write_text(yaml.safe_dump(values))
    return tiny_config


@pytest.fixture
def fit(polycom, config, tmp_path):
    """A function that trains as `version` and returns the run's folder."""

    def run(version: str, *options: object) -> Path:
        outcome = polycom("fit", "--config", config, "--run.version", version, *options)
        assert outcome.code == 0, outcome.err
        return tmp_path / "runs/tiny" / version

    return run


def test_the_option_changes_losses_and_off_is_the_default(fit):
    plain, off, apart = fit("plain"), fit("off", "--data.separate_documents", "false"), fit("apart", *APART)
    assert values(plain, "train/loss") == values(off, "train/loss")
    assert values(plain, "val/loss") == values(off, "val/loss")
    assert values(plain, "val/loss") != values(apart, "val/loss")
    first, last = values(apart, "train/loss")[0][1], values(apart, "train/loss")[-1][1]
    assert last < first


def mean_loss_of_lone_documents(decoder, batches: Iterable[dict], eos: int) -> float:
    """Mean negative log-likelihood of the targets when every document of every row stands alone."""
    nats, count = 0.0, 0
    for batch in batches:
        for row, labels in zip(batch["input_ids"], batch["labels"], strict=True):
            ends = (row == eos).nonzero().flatten().add(1).tolist()
            for ids, own in zip(row.tensor_split(ends), labels.clone().tensor_split(ends), strict=True):
                if len(ids) and ids[-1] == eos:
                    own[-1] = -100
                if (own != -100).any():
                    nats += F.cross_entropy(decoder(ids[None])[0], own, reduction="sum").item()
                    count += int((own != -100).sum())
    return nats / count


@torch.no_grad()
def test_losses_are_those_of_lone_documents(fit, paragraphs):
    # Nothing is learnt, so that one checkpoint has the weights of every step.
    run = fit("constant", *APART, "--model.optimizer.learning_rate", 0, "--data.micro_batch_size", 2)
    decoder, _ = load_decoder(run)
    shards = open_shards(paragraphs, "train")
    order = SampleOrder((shards.num_tokens - 1) // 64, 1234, Manifest.load(paragraphs).fingerprint)
    batches = TrainingStream(shards, order, 64, BatchPlan(4, 4, 1), 0, 0)
    for (_, found), batch in zip(values(run, "train/loss"), batches, strict=False):
        expected = mean_loss_of_lone_documents(decoder, [batch], shards.eos_token_id)
        assert found == pytest.approx(expected, rel=1e-5)
    windows = ValidationWindows(open_shards(paragraphs, "validation"), 64, 4, 0, 1, 1024)
    expected = mean_loss_of_lone_documents(decoder, windows, shards.eos_token_id)
    assert values(run, "val/loss")[-1][1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("z_loss", [0.0, 0.01])
def test_losses_do_not_depend_on_the_micro_batch(fit, z_loss):
    options = (*APART, "--model.z_loss_weight", z_loss)
    whole = fit("whole", *options)
    for micro in (1, 2):
        split = fit(f"micro{micro}", *options, "--data.micro_batch_size", micro)
        close(whole, split)
    # Not the sum over all positions: the mean is over the targets that are left.
    for (_, z), (_, split_z) in zip(values(whole, "train/z_loss"), values(split, "train/z_loss"), strict=True):
        assert split_z == pytest.approx(z, rel=1e-4)


@pytest.mark.long
def test_two_processes_equal_one(fit, config, tmp_path):
    one = fit("one", *APART)
    command = [sys.executable, "-m", "lightning_polycom", "fit", "--config", config, "--run.version", "two"]
    options = [*APART, "--data.micro_batch_size", 1, "--trainer.devices", 2, "--trainer.strategy", "ddp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [*map(str, command), *map(str, options)], capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment
    )
    assert found.returncode == 0, found.stderr[-3000:]
    two = tmp_path / "runs/tiny/two"
    assert json.loads((two / "run.json").read_text())["world_size"] == 2
    close(one, two)


def test_a_resumed_run_ends_with_the_same_bits_and_the_rule_may_not_change(fit, polycom, config):
    options = (*APART, "--data.micro_batch_size", 2)
    straight, stopped = fit("straight", *options), fit("stopped", *options)
    (stopped / "checkpoints/step-00000008.ckpt").unlink()
    for rule, found in (("false", "False"), (None, "False")):
        other = ("--data.separate_documents", rule) if rule else ()
        outcome = polycom("fit", "--config", config, *other, "--ckpt_path", stopped)
        assert outcome.code == 2 and outcome.err.count("\n") == 1
        assert f"data.separate_documents: found {found}, the checkpoint was trained with True" in outcome.err
    assert fit("stopped", *options, "--ckpt_path", stopped) == stopped
    ours, theirs = weights(straight, 8), weights(stopped, 8)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert dict(values(straight, "train/loss")) == dict(values(stopped, "train/loss"))


def test_a_checkpoint_from_before_the_option_resumes_without_it(fit, polycom, config):
    run = fit("old")
    file = run / "checkpoints/step-00000004.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    del checkpoint["TokenDataModule"]["separate_documents"]
    torch.save(checkpoint, file)
    (run / "checkpoints/step-00000008.ckpt").unlink()
    outcome = polycom("fit", "--config", config, *APART, "--ckpt_path", file)
    assert (
        outcome.code == 2
        and "data.separate_documents: found True, the checkpoint was trained with False" in outcome.err
    )
    fit("old", "--ckpt_path", file)


def test_validate_and_the_dry_run_follow_the_option(fit, polycom, config):
    run = fit("apart", *APART)
    outcome = polycom("validate", "--config", config, *APART[:2], "--ckpt_path", run)
    assert outcome.code == 0, outcome.err
    assert f"{dict(values(run, 'val/loss'))[8]:.3f}" in outcome.out
    outcome = polycom("validate", "--config", config, "--ckpt_path", run)
    assert outcome.code == 0 and f"{dict(values(run, 'val/loss'))[8]:.3f}" not in outcome.out
    dry = polycom("fit", "--config", config, *APART, "--dry_run")
    assert "kept apart" in dry.out

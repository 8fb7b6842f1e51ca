"""How a run gets its batches: from a thread or processes, with nothing left over, and with repetitions masked."""

import gc
import json
import multiprocessing
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from repeated_shards import repeated_copy

from lightning_polycom.data import open_shards
from lightning_polycom.training.module import LanguageModel

LENGTH = 64
MASKED = ("--data.mask_repetitions", "true", "--trainer.log_every_n_steps", 1)


def values(run: Path, tag: str) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line[tag]) for line in lines if tag in line]


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return torch.load(run / f"checkpoints/step-{step:08d}.ckpt", weights_only=True)["state_dict"]


def nothing_is_left() -> bool:
    gc.collect()
    running = [thread for thread in threading.enumerate() if thread.name == "prefetch"]
    return not running and not multiprocessing.active_children()


@pytest.fixture
def fit(polycom, tiny_config, tmp_path):
    """A function that trains as `version` and returns the run's folder."""

    def run(version: str, *options: object) -> Path:
        outcome = polycom("fit", "--config", tiny_config, "--run.version", version, *options)
        assert outcome.code == 0, outcome.err
        assert nothing_is_left()
        return tmp_path / "runs/tiny" / version

    return run


def test_workers_and_a_resume_give_the_same_bits(fit):
    split = ("--data.micro_batch_size", 2, "--trainer.log_every_n_steps", 1)
    thread, workers = fit("thread", *split), fit("workers", *split, "--data.num_workers", 2)
    assert values(thread, "train/loss") == values(workers, "train/loss")
    (workers / "checkpoints/step-00000008.ckpt").unlink()
    fit("workers", *split, "--ckpt_path", workers)
    ours, theirs = weights(thread, 8), weights(workers, 8)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_is_stopped_leaves_nothing(polycom, tiny_config, monkeypatch, num_workers, error):
    step = LanguageModel.training_step

    def failing(self, batch, batch_idx):
        if batch_idx == 3:
            raise error("stopped")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(LanguageModel, "training_step", failing)
    try:
        outcome = polycom("fit", "--config", tiny_config, "--data.num_workers", num_workers)
    except error:
        pass
    else:
        assert outcome.code
    assert nothing_is_left()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_file_that_shrinks_in_training_is_one_line(
    polycom, tiny_config, prepared, tmp_path, monkeypatch, num_workers
):
    folder = repeated_copy(prepared, tmp_path / "shards", LENGTH, [])
    setup = LanguageModel.configure_model

    def shrink(self):
        setup(self)
        for file in open_shards(folder, "train").files:
            with file.open("r+b") as opened:
                opened.truncate(100)

    monkeypatch.setattr(LanguageModel, "configure_model", shrink)
    outcome = polycom("fit", "--config", tiny_config, "--data.folder", folder, "--data.num_workers", num_workers)
    assert outcome.code == 2 and "it ends at byte 100" in outcome.err.splitlines()[-1], outcome.err
    assert "Traceback" not in outcome.err and nothing_is_left()


def test_fewer_than_no_workers_are_refused(polycom, tiny_config):
    outcome = polycom("fit", "--config", tiny_config, "--data.num_workers", -1)
    assert outcome.code == 2 and "data.num_workers: found -1" in outcome.err and outcome.err.count("\n") == 1


def test_masked_sequences_are_counted_and_losses_do_not_depend_on_the_micro_batch(fit, prepared, tmp_path):
    num_samples = open_shards(prepared, "train").files[0].stat().st_size // 2 // LENGTH
    folder = repeated_copy(prepared, tmp_path / "shards", LENGTH, [(n, 3, 40) for n in range(num_samples)])
    options = (*MASKED, "--data.folder", folder, "--model.optimizer.learning_rate", 0)
    whole, split = fit("whole", *options), fit("split", *options, "--data.micro_batch_size", 1)
    counts = values(whole, "data/masked_sequences")
    assert [step for step, _ in counts] == list(range(1, 9)) and sum(count for _, count in counts) > 3
    assert values(split, "data/masked_sequences") == counts
    for tag in ("train/loss", "optim/grad_norm"):
        found = [value for _, value in values(whole, tag)]
        assert [value for _, value in values(split, tag)] == pytest.approx(found, rel=1e-4)
    # A mean over what is left: otherwise a masked sequence, a quarter of the step, would count as 0.
    losses = values(whole, "train/loss")
    assert [loss for _, loss in losses] == pytest.approx([np.log(600)] * 8, rel=0.05)
    plain = fit("plain", *options[2:])
    assert not values(plain, "data/masked_sequences") and values(plain, "train/loss") != losses


@pytest.mark.parametrize("z_loss", [0.0, 0.01])
def test_a_step_that_is_masked_whole_has_no_loss_and_no_gradient(fit, prepared, tmp_path, z_loss):
    folder = repeated_copy(prepared, tmp_path / "shards", LENGTH, [])
    for file in open_shards(folder, "train").files:
        np.full_like(np.fromfile(file, "<u2"), 7).tofile(file)
    run = fit("all", *MASKED, "--data.folder", folder, "--model.z_loss_weight", z_loss)
    assert values(run, "data/masked_sequences") == [(step, 4) for step in range(1, 9)]
    assert {loss for _, loss in values(run, "train/loss")} == {0.0}
    assert {norm for _, norm in values(run, "optim/grad_norm")} == {0.0}
    assert all(torch.isfinite(weight).all() for weight in weights(run, 8).values())


def test_a_resume_with_another_setting_is_refused(fit, polycom, tiny_config):
    run = fit("masked", *MASKED)
    (run / "checkpoints/step-00000008.ckpt").unlink()
    outcome = polycom("fit", "--config", tiny_config, "--ckpt_path", run)
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert "data.mask_repetitions: found False, the checkpoint was trained with True" in outcome.err
    fit("masked", *MASKED, "--ckpt_path", run)


def test_the_dry_run_says_so(polycom, tiny_config):
    outcome = polycom("fit", "--config", tiny_config, *MASKED[:2], "--dry_run")
    assert outcome.code == 0 and "left out of the loss" in outcome.out

"""Resuming with other settings: the same stream and schedule as a run that never stopped."""

import json
from pathlib import Path

import pytest
import torch


def values(run: Path, tag: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[tag] for line in lines if tag in line}


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return torch.load(run / f"checkpoints/step-{step:08d}.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize(("before", "after"), [(4, 1), (1, 4), (2, 2)])
def test_the_micro_batch_may_change(polycom, tiny_config, tmp_path, before, after):
    def fit(version, steps, micro, *options):
        every_step = (
            "--trainer.log_every_n_steps",
            1,
            "--trainer.val_check_interval",
            2,
            "--checkpoint.every_n_steps",
            3,
        )
        settings = ("--trainer.max_steps", steps, "--data.micro_batch_size", micro, "--model.schedule.name", "constant")
        outcome = polycom("fit", "--config", tiny_config, "--run.version", version, *every_step, *settings, *options)
        assert outcome.code == 0, outcome.err
        return tmp_path / "runs/tiny" / version

    straight = fit("straight", 6, before)
    resumed = fit("resumed", 3, before)
    fit("resumed", 6, after, "--ckpt_path", resumed)
    for tag in ("train/loss", "val/loss", "optim/grad_norm", "optim/lr"):
        one, other = values(straight, tag), values(resumed, tag)
        assert set(one) <= set(other)
        assert [other[step] for step in one] == pytest.approx(list(one.values()), rel=1e-5), tag
    for name, weight in weights(straight, 6).items():
        torch.testing.assert_close(weights(resumed, 6)[name], weight, rtol=1e-4, atol=1e-6)
        if before == after:
            assert torch.equal(weights(resumed, 6)[name], weight)


def test_a_longer_run_follows_its_own_schedule_and_optimizer_settings(polycom, tiny_config, tmp_path):
    log = ("--trainer.log_every_n_steps", 1)
    assert polycom("fit", "--config", tiny_config, *log, "--run.version", "more").code == 0
    more = tmp_path / "runs/tiny/more"
    options = (
        "--trainer.max_steps",
        16,
        "--model.optimizer.learning_rate",
        0.002,
        "--model.optimizer.betas",
        "[0.8, 0.9]",
    )
    assert polycom("fit", "--config", tiny_config, *log, *options, "--ckpt_path", more).code == 0
    assert polycom("fit", "--config", tiny_config, *log, *options, "--run.version", "straight").code == 0
    straight = values(tmp_path / "runs/tiny/straight", "optim/lr")
    assert {s: v for s, v in values(more, "optim/lr").items() if s > 8} == {s: v for s, v in straight.items() if s > 8}
    saved = torch.load(more / "checkpoints/step-00000016.ckpt", weights_only=True)
    assert [group["betas"] for group in saved["optimizer_states"][0]["param_groups"]] == [(0.8, 0.9)] * 2


def test_events_and_metrics_show_each_step_once(polycom, tiny_config, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert polycom("fit", "--config", tiny_config, "--run.version", "once").code == 0
    run = tmp_path / "runs/tiny/once"
    (run / "checkpoints/step-00000008.ckpt").unlink()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "ti')
    assert polycom("fit", "--config", tiny_config, "--ckpt_path", run).code == 0
    events = EventAccumulator(str(run / "tb"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [2, 4, 6, 8]
    assert [event.step for event in events.Scalars("activation/0/coefficient_1")] == [0, 2, 4, 6, 8]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "val/loss" in line] == [4, 8]


def test_the_last_step_is_validated_whatever_the_interval(polycom, tiny_config, tmp_path):
    assert polycom("fit", "--config", tiny_config, "--trainer.max_steps", 7).code == 0
    assert list(values(tmp_path / "runs/tiny/version_0", "val/loss")) == [4, 7]


def test_a_task_that_fails_is_reported_and_training_goes_on(polycom, tiny_config, tmp_path):
    options = (
        "--evaluation.tasks",
        '["heldout_continuation", "heldout_perplexity_code"]',
        "--evaluation.num_fewshot",
        500,
    )
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    root = Path(__file__).parents[2] / "data/tasks"
    (tasks / "a.yaml").write_text((root / "heldout_continuation.yaml").read_text())
    rolling = (root / "heldout_perplexity_library.yaml").read_text().replace("library", "code") + "num_fewshot: 0\n"
    (tasks / "b.yaml").write_text(rolling)
    outcome = polycom("fit", "--config", tiny_config, *options, "--evaluation.include_path", json.dumps([str(tasks)]))
    assert outcome.code == 0, outcome.err
    run = tmp_path / "runs/tiny/version_0"
    results = json.loads((run / "evals/step-00000008.json").read_text())
    assert "heldout_continuation" in results["polycom"]["failed"] and "heldout_perplexity_code" in results["results"]
    assert (run / "checkpoints/step-00000008.ckpt").exists()


def test_an_activation_of_ones_own_starts_and_resumes_with_its_values(polycom, tiny_config, tmp_path, monkeypatch):
    (tmp_path / "own_activation.py").write_text(
        "import torch\n"
        "from lightning_polycom.activations.modules import Activation\n"
        "class Scaled(Activation):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.alpha = torch.nn.Parameter(torch.full((1,), 1.75))\n"
        "        self.register_buffer('shift', torch.tensor([3.0]))\n"
        "    def forward(self, x):\n"
        "        return self.alpha * torch.relu(x - self.shift)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    options = ("--model.decoder.activation.name", "own_activation.Scaled", "--model.optimizer.learning_rate", 0)
    outcome = polycom("fit", "--config", tiny_config, *options, "--trainer.max_steps", 4)
    assert outcome.code == 0, outcome.err
    saved = weights(tmp_path / "runs/tiny/version_0", 4)
    assert saved["decoder.blocks.1.feed_forward.activation.alpha"].tolist() == [1.75]
    assert saved["decoder.blocks.0.feed_forward.activation.shift"].tolist() == [3.0]

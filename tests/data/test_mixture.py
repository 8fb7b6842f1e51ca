"""Mixtures: exact quotas in every prefix, each domain in its own order, weights that change between two starts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_polycom.data import SampleOrder, open_shards
from lightning_polycom.data.mixture import CYCLE, MixtureOrder, Pattern, Source, Weighting, continued, mixture_sources
from lightning_polycom.data.shard_selection import ShardSelection
from lightning_polycom.data.training_data import TrainingData
from lightning_polycom.errors import InputError

LENGTH = 16
RED_PAJAMA = [878, 175, 59, 26, 28, 24, 20]


def order(*weightings: Weighting, sizes: tuple[int, ...] = (700, 50, 9)) -> MixtureOrder:
    firsts = np.cumsum([0, *sizes]) * 1000
    sources = [Source(f"d{i}", int(firsts[i]), SampleOrder(n, 3, f"f{i}")) for i, n in enumerate(sizes)]
    return MixtureOrder(sources, weightings)


def domains(mixture: MixtureOrder, starts: np.ndarray) -> np.ndarray:
    firsts = [source.first_token for source in mixture.sources]
    return np.searchsorted(firsts, starts, side="right") - 1


@pytest.mark.parametrize("weights", [RED_PAJAMA, [1.0], [1, 1], [0.999, 0.001], [0.2, 0, 0.8], [1 / 3, 1 / 3, 1 / 3]])
def test_every_prefix_has_the_weights_shares(weights):
    n = np.arange(0, 3 * CYCLE + 1)
    counts, shares = Pattern(weights).counts(n), np.array(weights) / sum(weights)
    assert (counts.sum(1) == n).all() and (np.diff(counts, axis=0) >= 0).all()
    error = np.abs(counts - n[:, None] * shares)
    assert (error <= 2 + 1e-4 * n[:, None]).all()
    assert (error[3000:] <= 1e-3 * n[3000:, None]).all()


def test_each_domain_goes_through_its_own_order_epoch_after_epoch():
    mixture = order(Weighting(0, {"d0": 5, "d1": 3, "d2": 2}))
    starts = mixture.starts(np.arange(3000), LENGTH)
    owners = domains(mixture, starts)
    for index, source in enumerate(mixture.sources):
        mine = (starts[owners == index] - source.first_token) // LENGTH
        assert np.array_equal(mine, source.order.indices(0, len(mine)))
        assert len(mine) == mixture.counts(3000)[source.domain]
        assert mixture.epochs(3000)[source.domain] == len(mine) / source.order.num_samples
    assert mixture.epochs(3000)["d2"] > 60


def test_any_position_can_be_asked_for():
    mixture = order(Weighting(0, {"d0": 5, "d1": 1}), Weighting(700, {"d1": 1, "d2": 1}))
    whole = mixture.starts(np.arange(2000), LENGTH)
    rng = np.random.default_rng(0)
    for start, count in rng.integers(0, 1000, (50, 2)):
        assert np.array_equal(mixture.starts(np.arange(start, start + count), LENGTH), whole[start : start + count])


def test_a_change_of_weights_moves_nothing_before_it_and_goes_on_where_each_domain_was():
    first, changed = Weighting(0, {"d0": 9, "d1": 1}), Weighting(500, {"d0": 1, "d1": 1, "d2": 2})
    before, after = order(first), order(first, changed)
    assert np.array_equal(before.starts(np.arange(500), LENGTH), after.starts(np.arange(500), LENGTH))
    starts = after.starts(np.arange(900), LENGTH)
    owners = domains(after, starts)
    assert (owners[:500] < 2).all() and abs((owners[500:] == 2).sum() - 200) <= 2
    for index, source in enumerate(after.sources):
        mine = (starts[owners == index] - source.first_token) // LENGTH
        assert np.array_equal(mine, source.order.indices(0, len(mine)))


def test_equal_shares_are_no_change_and_a_change_at_the_start_replaces():
    old = [Weighting(0, {"a": 1, "b": 3})]
    assert continued(old, {"b": 0.75, "a": 0.25}, 40) == old
    assert continued(old, {"a": 1}, 40) == [*old, Weighting(40, {"a": 1})]
    assert continued([*old, Weighting(40, {"a": 1})], {"b": 1}, 40) == [*old, Weighting(40, {"b": 1})]
    assert continued(old, {"b": 1}, 0) == [Weighting(0, {"b": 1})]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([-1, 2], "found weights .* give numbers of 0 or more"),
        ([0, 0], "one above 0"),
        ([float("nan"), 1], "give numbers"),
        ([1, 1e-6], "found weight 1e-06, less than one sample in 10,000"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(InputError, match=message):
        Pattern(weights)


def test_the_sources_are_the_domains_of_the_training_shards(prepared):
    shards, spans = open_shards(prepared, "train"), TrainingData(ShardSelection(prepared)).train_spans
    for source in mixture_sources(spans, 3, LENGTH, ["code", "prose"]):
        alone = open_shards(prepared, "train", source.domain)
        assert source.order.num_samples == (alone.num_tokens - 1) // LENGTH
        assert source.order.fingerprint == alone.fingerprint
        assert np.array_equal(shards.read(source.first_token, 99), alone.read(0, 99))
    with pytest.raises(InputError, match="no training domain 'web'; there are code, prose"):
        mixture_sources(spans, 3, LENGTH, ["web"])
    with pytest.raises(InputError, match=r"'code' has \d+ training tokens, no more than a sample of"):
        mixture_sources(spans, 3, 10**7, ["code"])


def test_a_run_logs_epochs_resumes_exactly_and_records_changed_weights(polycom, tiny_config, tmp_path):
    def fit(version, steps, *options):
        settings = ("--run.version", version, "--trainer.max_steps", steps, "--model.schedule.name", "constant")
        every = ("--checkpoint.every_n_steps", 2, "--trainer.log_every_n_steps", 1, "--trainer.val_check_interval", 2)
        outcome = polycom("fit", "--config", tiny_config, *settings, *every, *options)
        return outcome, tmp_path / "runs/tiny" / version

    old, new = '{"code": 3, "prose": 1}', '{"code": 1, "prose": 1}'
    outcome, straight = fit("straight", 4, "--data.mixture", old)
    assert outcome.code == 0, outcome.err
    _, resumed = fit("resumed", 2, "--data.mixture", old)
    outcome, _ = fit("resumed", 4, "--data.mixture", old, "--data.micro_batch_size", 2, "--ckpt_path", resumed)
    assert outcome.code == 0 and "other weights" not in outcome.out
    one, other = (torch.load(run / "checkpoints/step-00000004.ckpt", weights_only=True) for run in (straight, resumed))
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(value, other["state_dict"][name], rtol=1e-4, atol=1e-5)
    lines = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    epochs = next(line for line in reversed(lines) if "progress/epochs/code" in line)
    spans = TrainingData(ShardSelection(yaml_folder(tiny_config))).train_spans
    counts = MixtureOrder(mixture_sources(spans, 1, 64, ["code", "prose"]), [Weighting(0, json.loads(old))])
    assert epochs["progress/epochs/code"] == pytest.approx(counts.epochs(epochs["step"] * 4)["code"])

    outcome, _ = fit("resumed", 6, "--data.mixture", new, "--ckpt_path", resumed)
    assert outcome.code == 0 and "data.mixture: other weights from sample 16 on" in outcome.out
    record = json.loads((resumed / "run.json").read_text())
    assert [weighting["from_sample"] for weighting in record["data_mixture"]] == [0, 16]
    outcome, _ = fit("resumed", 8, "--ckpt_path", resumed)
    assert outcome.code == 2 and "data.mixture: the checkpoint was trained with one" in outcome.err


def test_the_dry_run_shows_shares_and_epochs(polycom, tiny_config):
    outcome = polycom("fit", "--config", tiny_config, "--data.mixture", '{"code": 3, "prose": 1}', "--dry_run")
    assert outcome.code == 0, outcome.err
    assert "code 75.00% (0." in outcome.out and "prose 25.00% (0." in outcome.out
    outcome = polycom("fit", "--config", tiny_config, "--data.mixture", '{"cod": 3}', "--dry_run")
    assert outcome.code == 2 and "no training domain 'cod'; there are code, prose" in outcome.err


def yaml_folder(config) -> Path:
    import yaml

    return Path(yaml.safe_load(config.read_text())["data"]["folder"])

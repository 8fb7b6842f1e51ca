"""The hash of the token stream and of the initial weights, as runs record them."""

import json
from pathlib import Path

import pytest
import torch

from lightning_polycom.callbacks.initial_digest import common_digest
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.initialization import initialize


@pytest.fixture
def fit(polycom, tiny_config, tmp_path):
    def run(version: str, *options) -> dict:
        outcome = polycom("fit", "--config", tiny_config, "--run.version", version, *options)
        assert outcome.code == 0, outcome.err
        return json.loads((tmp_path / "runs/tiny" / version / "run.json").read_text())

    return run


def test_the_same_hash_for_any_micro_batch_and_across_a_resume(fit, tmp_path):
    straight = fit("straight")
    assert list(straight["token_stream"]) == ["4", "8"]
    assert fit("small", "--data.micro_batch_size", 1)["token_stream"] == straight["token_stream"]
    assert fit("workers", "--data.num_workers", 1)["token_stream"] == straight["token_stream"]
    constant = ("--model.schedule.name", "constant", "--trainer.val_check_interval", 3)
    half = fit("resumed", *constant, "--trainer.max_steps", 4)
    assert list(half["token_stream"]) == ["3", "4"] and half["token_stream"]["4"] == straight["token_stream"]["4"]
    whole = fit("resumed", *constant, "--data.micro_batch_size", 2, "--ckpt_path", tmp_path / "runs/tiny/resumed")
    assert list(whole["token_stream"]) == ["3", "4", "6", "8"]
    assert whole["token_stream"].items() >= straight["token_stream"].items()
    assert whole["initial_weights_digest"] == straight["initial_weights_digest"]


def test_another_order_other_documents_and_masks_have_other_hashes(fit):
    options = {
        "seed": ("--data.seed", 8),
        "batch": ("--data.global_batch_size", 8),
        "documents": ("--data.separate_documents", "true"),
    }
    hashes = {name: fit(name, *option)["token_stream"] for name, option in options.items()} | {"same": fit("same")}
    hashes["same"] = hashes["same"]["token_stream"]
    for step in ("4", "8"):
        assert len({of_run[step] for of_run in hashes.values()}) == 4


def test_arms_start_alike_outside_the_feed_forward_and_seeds_do_not(fit):
    digests = [
        fit(name, "--model.decoder.activation.name", name)["initial_weights_digest"] for name in ("relu", "swiglu")
    ]
    assert digests[0] == digests[1] and len(digests[0]) == 64
    assert fit("other", "--model.seed", 8)["initial_weights_digest"] != digests[0]


def test_the_digest_sees_one_changed_bit_and_leaves_the_feed_forward_out():
    decoder = Decoder(DecoderConfig(50, 16, 1, 2, 32))
    initialize(decoder, 1)
    before = common_digest(decoder)
    with torch.no_grad():
        decoder.get_parameter("blocks.0.feed_forward.up.weight")[0, 0] += 1
    assert common_digest(decoder) == before
    with torch.no_grad():
        decoder.get_parameter("blocks.0.attention.key.weight")[0, 0] += 1e-7
    assert common_digest(decoder) != before


@pytest.mark.slow
def test_two_ranks_record_what_one_does(fit, tiny_config, tmp_path):
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
    from fit_on_ranks import fit_on_ranks

    one = fit("one")
    every = ("--data.micro_batch_size", 1, "--run.version")
    starts = [(way, (*every, way), {}) for way in ("ddp", "fsdp")]
    codes, said = fit_on_ranks(tmp_path, tiny_config, starts)
    assert codes == [[0, 0], [0, 0]], said
    for way in ("ddp", "fsdp"):
        record = json.loads((tmp_path / "runs/tiny" / way / "run.json").read_text())
        assert record["token_stream"] == one["token_stream"]
        assert record["initial_weights_digest"] == one["initial_weights_digest"]

"""Sequences with a repetition, left out of the loss whole."""

import itertools

import numpy as np
import pytest
import torch
from repeated_shards import repeated_copy

from lightning_polycom.data import SampleOrder, open_shards
from lightning_polycom.data.batches import IGNORE_INDEX, BatchPlan, TrainingStream

LENGTH = 48
LONG = [(3, 2, 32), (10, 16, 32), (11, 1, 40), (200, 5, 33)]
SHORT = [(5, 2, 31), (20, 17, 32)]  # of the last one, the 32nd is a target only


@pytest.fixture(scope="module")
def repeated(prepared, tmp_path_factory):
    return repeated_copy(prepared, tmp_path_factory.mktemp("repeated") / "shards", LENGTH, LONG + SHORT)


def stream(folder, plan: BatchPlan, rank: int = 0, **options) -> TrainingStream:
    shards = open_shards(folder, "train")
    order = SampleOrder((shards.num_tokens - 1) // LENGTH, 3, shards.fingerprint)
    return TrainingStream(shards, order, LENGTH, plan, rank, 0, **options)


@pytest.mark.parametrize("apart", [False, True])
def test_all_labels_of_a_sequence_with_a_repetition_and_no_others_are_taken_out(repeated, apart):
    plan = BatchPlan(1, 1, 1)
    masked = stream(repeated, plan, separate_documents=apart, mask_repetitions=True)
    plain = stream(repeated, plan, separate_documents=apart)
    samples = masked.order.indices(0, masked.order.num_samples).tolist()
    for sample, one, other in zip(samples, masked, plain, strict=False):
        expected = sample in {number for number, *_ in LONG}
        assert one["num_masked_sequences"] == expected
        assert torch.equal(one["input_ids"], other["input_ids"]) and ("positions" in one) == apart
        if expected:
            assert (one["labels"] == IGNORE_INDEX).all() and one["num_rank_targets"] == 0
        else:
            assert torch.equal(one["labels"], other["labels"])
            assert one["num_rank_targets"] == (one["labels"] != IGNORE_INDEX).sum()


@pytest.mark.parametrize(("micro", "world"), [(8, 1), (2, 1), (2, 2), (1, 4)])
def test_counts_are_those_of_the_step_on_any_split(repeated, micro, world):
    plan, masked = BatchPlan(8, micro, world), 0
    ranks = [iter(stream(repeated, plan, rank, mask_repetitions=True)) for rank in range(world)]
    whole = stream(repeated, BatchPlan(8, 8, 1), mask_repetitions=True)
    for step in itertools.islice(whole, whole.order.num_samples // 8):
        parts = [[next(rank) for rank in ranks] for _ in range(plan.accumulation)]
        rows = [batch for part in parts for batch in part]
        assert np.array_equal(torch.cat([batch["labels"] for batch in rows]), step["labels"])
        assert sum(batch["num_rank_targets"] for batch in parts[0]) == step["num_rank_targets"]
        assert sum(batch["num_masked_sequences"] for batch in rows) == step["num_masked_sequences"]
        masked += step["num_masked_sequences"]
    assert masked >= 3


def test_without_the_option_nothing_is_counted(repeated):
    assert "num_masked_sequences" not in next(iter(stream(repeated, BatchPlan(4, 4, 1), separate_documents=True)))

import itertools

import numpy as np
import pytest
import torch

from lightning_polycom.data import SampleOrder, open_shards
from lightning_polycom.data.batches import IGNORE_INDEX, BatchPlan, TrainingStream, ValidationWindows
from lightning_polycom.errors import InputError

LENGTH = 48


def stream(prepared, plan: BatchPlan, rank: int = 0, start: int = 0) -> TrainingStream:
    shards = open_shards(prepared, "train")
    order = SampleOrder((shards.num_tokens - 1) // LENGTH, 3, shards.fingerprint)
    return TrainingStream(shards, order, LENGTH, plan, rank, start)


def first_rows(prepared, plan: BatchPlan, steps: int, start: int = 0) -> list[torch.Tensor]:
    """The input rows of each optimizer step, over all ranks and micro-batches, in global order."""
    ranks = [iter(stream(prepared, plan, rank, start)) for rank in range(plan.world_size)]
    result = []
    for _ in range(steps):
        parts = [next(rank)["input_ids"] for _ in range(plan.accumulation) for rank in ranks]
        result.append(torch.cat(parts))
    return result


@pytest.mark.parametrize(("micro", "world"), [(8, 1), (2, 1), (2, 2), (1, 4), (4, 2)])
def test_steps_do_not_depend_on_ranks_or_micro_batches(prepared, micro, world):
    expected = first_rows(prepared, BatchPlan(8, 8, 1), 5)
    for a, b in zip(expected, first_rows(prepared, BatchPlan(8, micro, world), 5), strict=True):
        assert torch.equal(a, b)


def test_a_stream_can_start_anywhere(prepared):
    whole = first_rows(prepared, BatchPlan(4, 4, 1), 6)
    for a, b in zip(whole[4:], first_rows(prepared, BatchPlan(4, 2, 2), 2, start=16), strict=True):
        assert torch.equal(a, b)


def test_an_epoch_reads_every_sample_once_and_labels_follow_inputs(prepared):
    shards = open_shards(prepared, "train")
    num_samples = (shards.num_tokens - 1) // LENGTH
    batches, seen = iter(stream(prepared, BatchPlan(1, 1, 1))), set()
    for _ in range(num_samples):
        batch = next(batches)
        assert torch.equal(batch["input_ids"][0, 1:], batch["labels"][0, :-1])
        assert batch["num_step_targets"] == LENGTH
        seen.add(batch["input_ids"].numpy().tobytes() + batch["labels"].numpy().tobytes())
    expected = {
        np.concatenate([w[None, :-1], w[None, 1:]]).astype(np.int64).tobytes()
        for w in (shards.read(i * LENGTH, LENGTH + 1) for i in range(num_samples))
    }
    assert seen == expected


def test_a_global_batch_that_does_not_divide_is_refused():
    with pytest.raises(InputError, match="global_batch_size: 10 is no multiple of micro_batch_size 4 x 1 ranks"):
        BatchPlan(10, 4, 1)


def scored_pairs(prepared, world: int, limit: int | None) -> list[tuple[int, int]]:
    """Every (input, target) that counts, over all ranks."""
    shards = open_shards(prepared, "validation", "prose")
    loaders = [ValidationWindows(shards, LENGTH, 4, rank, world, limit) for rank in range(world)]
    assert len({len(loader) for loader in loaders}) == 1
    pairs = []
    for batches in zip(*loaders, strict=True):
        for batch in batches:
            assert batch["input_ids"].shape == batch["labels"].shape == (4, LENGTH)
            valid = batch["labels"] != IGNORE_INDEX
            pairs += zip(batch["input_ids"][valid].tolist(), batch["labels"][valid].tolist(), strict=True)
    return pairs


@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_scores_each_target_once_over_all_ranks(prepared, world):
    shards = open_shards(prepared, "validation", "prose")
    tokens = shards.read(0, shards.num_tokens).tolist()
    assert sorted(scored_pairs(prepared, world, None)) == sorted(itertools.pairwise(tokens))


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("limit", [1, 100, 1000])
def test_limited_validation_takes_whole_windows_spread_over_the_domain(prepared, world, limit):
    shards = open_shards(prepared, "validation", "prose")
    used, available = -(-limit // LENGTH), -(-(shards.num_tokens - 1) // LENGTH)
    expected = []
    for number in range(used):
        start = number * available // used * LENGTH
        expected += itertools.pairwise(shards.read(start, LENGTH + 1).tolist())
    assert sorted(scored_pairs(prepared, world, limit)) == sorted(expected)
    assert used == 1 or start > shards.num_tokens * (used - 1) / used - LENGTH - 1

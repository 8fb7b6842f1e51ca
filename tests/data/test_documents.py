"""Documents kept apart: positions, masked targets and their count, from the end-of-text ids in the tokens."""

import itertools

import numpy as np
import pytest
import torch

from lightning_polycom.data import SampleOrder, open_shards
from lightning_polycom.data.batches import IGNORE_INDEX, BatchPlan, TrainingStream, ValidationWindows
from lightning_polycom.data.documents import document_positions

LENGTH = 200
STEPS = 6


def stream(prepared, plan: BatchPlan, rank: int = 0, start: int = 0, apart: bool = True) -> TrainingStream:
    shards = open_shards(prepared, "train")
    order = SampleOrder((shards.num_tokens - 1) // LENGTH, 3, shards.fingerprint)
    return TrainingStream(shards, order, LENGTH, plan, rank, start, apart)


def steps(prepared, plan: BatchPlan, apart: bool = True, start: int = 0) -> list[dict]:
    """Each step's rows over all ranks and micro-batches in global order, and its targets summed over ranks."""
    ranks = [iter(stream(prepared, plan, rank, start, apart)) for rank in range(plan.world_size)]
    result = []
    for _ in range(STEPS):
        parts = [[next(rank) for rank in ranks] for _ in range(plan.accumulation)]
        rows = [batch for part in parts for batch in part]
        step = {key: torch.cat([b[key] for b in rows]) for key, of in rows[0].items() if isinstance(of, torch.Tensor)}
        if apart:
            counts = [{part[rank]["num_rank_targets"] for part in parts} for rank in range(plan.world_size)]
            assert all(len(count) == 1 for count in counts)  # the same in every micro-batch of a rank
            step["count"] = sum(count.pop() for count in counts)
        result.append(step)
    return result


def positions_by_hand(row: list[int], eos: int) -> list[int]:
    positions, position = [], 0
    for token in row:
        positions.append(position)
        position = 0 if token == eos else position + 1
    return positions


def test_positions_begin_again_after_every_end():
    ends = np.array([[0, 0, 1, 0, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
    expected = [[0, 1, 2, 0, 1], [0, 0, 0, 1, 2], [0, 1, 2, 3, 4], [0, 0, 0, 0, 0]]
    assert document_positions(ends).tolist() == expected
    assert document_positions(ends).dtype == np.int64


def test_random_rows_have_the_positions_counted_by_hand():
    rows = np.random.default_rng(4).integers(0, 5, (20, 37))
    found = document_positions(rows == 0)
    assert found.tolist() == [positions_by_hand(row, 0) for row in rows.tolist()]


def test_only_the_first_token_of_a_document_is_no_target(prepared):
    eos = open_shards(prepared, "train").eos_token_id
    ends = 0
    plain, apart = (steps(prepared, BatchPlan(8, 8, 1), apart=option) for option in (False, True))
    for one, other in zip(plain, apart, strict=True):
        assert torch.equal(one["input_ids"], other["input_ids"])
        after_end = one["input_ids"] == eos
        assert (other["labels"][after_end] == IGNORE_INDEX).all()
        assert torch.equal(one["labels"][~after_end], other["labels"][~after_end])
        assert other["count"] == 8 * LENGTH - after_end.sum()
        assert other["positions"].tolist() == [positions_by_hand(row, eos) for row in one["input_ids"].tolist()]
        ends += int(after_end.sum())
    assert ends > 0
    assert (torch.cat([step["labels"] for step in apart]) == eos).any()  # the end itself is a target


@pytest.mark.parametrize(("micro", "world"), [(2, 1), (1, 2), (2, 4), (4, 2)])
def test_steps_and_their_targets_do_not_depend_on_the_split(prepared, micro, world):
    for one, other in zip(
        steps(prepared, BatchPlan(8, 8, 1), start=16),
        steps(prepared, BatchPlan(8, micro, world), start=16),
        strict=True,
    ):
        assert one["count"] == other["count"]
        assert all(torch.equal(one[key], other[key]) for key in ("input_ids", "labels", "positions"))


def test_without_the_option_a_batch_is_what_it_was(prepared):
    batch = next(iter(stream(prepared, BatchPlan(8, 4, 2), apart=False)))
    assert (
        set(batch) == {"input_ids", "labels", "num_step_targets", "samples_hash"}
        and batch["num_step_targets"] == 8 * LENGTH
    )
    validation = ValidationWindows(open_shards(prepared, "validation", "prose"), LENGTH, 4, 0, 1, None)
    assert set(next(iter(validation))) == {"input_ids", "labels"}


@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_scores_all_but_the_documents_first_tokens(prepared, world):
    shards = open_shards(prepared, "validation", "prose")
    tokens = shards.read(0, shards.num_tokens).tolist()
    expected = sorted((a, b) for a, b in itertools.pairwise(tokens) if a != shards.eos_token_id)
    assert len(expected) == len(tokens) - shards.num_documents
    found = []
    for rank in range(world):
        for batch in ValidationWindows(shards, LENGTH, 4, rank, world, None, True):
            valid = batch["labels"] != IGNORE_INDEX
            found += zip(batch["input_ids"][valid].tolist(), batch["labels"][valid].tolist(), strict=True)
            rows = zip(batch["input_ids"].tolist(), batch["positions"].tolist(), valid.tolist(), strict=True)
            for row, positions, scored in rows:
                # Where something is scored; the padding after it is not held to any positions.
                last = max((i for i, counts in enumerate(scored) if counts), default=-1)
                assert positions[: last + 1] == positions_by_hand(row, shards.eos_token_id)[: last + 1]
    assert sorted(found) == expected


def test_padding_is_no_crowd_of_documents(prepared):
    shards = open_shards(prepared, "validation", "prose")
    assert shards.eos_token_id == 0  # what windows are padded with
    *_, last = ValidationWindows(shards, LENGTH, 7, 0, 1, None, True)
    assert (last["labels"] == IGNORE_INDEX).all(1).any()
    assert last["positions"][-1].tolist() == list(range(LENGTH))

"""Plans batches by a token budget and shares them among ranks, with equal numbers of forward passes."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_polycom.evaluation.ranks import gather, rank_and_world_size


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Groups items into batches, longest first, so that rows times the longest row stays within `batch_tokens`.

    `lengths[i]` is item i's number of tokens. Returns item numbers; an item longer than the budget is a batch alone.
    """
    batches: list[list[int]] = []
    for item in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= batch_tokens:
            batches[-1].append(item)
        else:
            batches.append([item])
    return batches


Track = Callable[[Sequence[int]], Iterable[int]]
"""Passes rounds of batches on one by one, showing how far they are; `iter` shows nothing."""


def run_batches(batches: list[list[int]], run: Callable[[list[int]], Sequence[Any]], track: Track = iter) -> list[Any]:
    """Runs every batch on one of the ranks; returns the results of all items, by item number, on every rank.

    `run(items)` returns one picklable result an item. Under sharding each forward pass is a collective, so all ranks
    call `run` equally often: in the last round, ranks without a batch of their own repeat another's.
    """
    rank, world_size = rank_and_world_size()
    mine: dict[int, Any] = {}
    for start in track(range(0, len(batches), world_size)):
        batch_round = batches[start : start + world_size]
        items = batch_round[min(rank, len(batch_round) - 1)]
        results = run(items)
        if rank < len(batch_round):
            mine.update(zip(items, results, strict=True))
    everything: dict[int, Any] = {}
    for part in gather(mine):
        everything.update(part)
    return [everything[item] for item in range(len(everything))]


def pad_right(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> Tensor:
    """Rows of token ids -> int64 (rows, longest row); a causal model never sees the pads behind a row's end."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in rows], dtype=torch.int64, device=device)

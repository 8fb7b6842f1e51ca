"""Forward passes planned by a token budget, and shared among ranks so that all make equally many."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lightning_polycom.evaluation.ranks import gather, rank_and_world_size
from lightning_polycom.evaluation.sharing import Family
from lightning_polycom.evaluation.token_tree import Tree

Track = Callable[[Sequence[int]], Iterable[int]]
"""Passes the numbers of forward passes on one by one, showing how far they are; `iter` shows nothing."""


class Batch(NamedTuple):
    """The rows of one forward pass, and the beginning that they continue; an empty one is none."""

    beginning: np.ndarray
    trees: list[Tree]


def plan_batches(families: list[Family], batch_tokens: int, new_tokens: int) -> list[Batch]:
    """Rows of one family, longest first, so that a batch keeps to both limits, or is one row.

    Each row counts with the tokens of the longest, because it is padded: all rows' may be `new_tokens`, and together
    with those of the stored beginning, which stands before each, `batch_tokens`.
    """
    batches: list[Batch] = []
    for beginning, trees in families:
        rows: list[Tree] = []
        for tree in sorted(trees, key=lambda tree: -len(tree.ids)):
            width = len(rows[0].ids) if rows else 0
            count = len(rows) + 1
            if rows and (count * width > new_tokens or count * (len(beginning) + width) > batch_tokens):
                batches.append(Batch(beginning, rows))
                rows = []
            rows.append(tree)
        batches.append(Batch(beginning, rows))
    return batches


def steps(batches: list[Batch]) -> list[Batch]:
    """Forward passes for batches in this order: before those of a family one without rows, for its beginning."""
    result: list[Batch] = []
    beginning: np.ndarray | None = None
    for batch in batches:
        if batch.beginning is not beginning and len(batch.beginning):
            result.append(Batch(batch.beginning, []))
        beginning = batch.beginning
        result.append(batch)
    return result


def run_batches(
    batches: list[Batch], run: Callable[[Batch], dict[int, Any]], idle: Callable[[], None], track: Track = iter
) -> list[Any]:
    """Runs every batch on one of the ranks; the results of all requests, by their number, on every rank.

    `run` makes one forward pass and returns picklable results by request. Under sharding each pass is a collective,
    so a rank that has none left calls `idle`, which makes one too. Neighbouring batches stay on one rank, because they
    share stored beginnings.
    """
    rank, world_size = rank_and_world_size()
    bounds = [len(batches) * part // world_size for part in range(world_size + 1)]
    shares = [steps(batches[first:behind]) for first, behind in itertools.pairwise(bounds)]
    mine: dict[int, Any] = {}
    for number in track(range(max(len(share) for share in shares))):
        if number < len(shares[rank]):
            mine.update(run(shares[rank][number]))
        else:
            idle()
    everything: dict[int, Any] = {}
    for part in gather(mine):
        everything.update(part)
    return [everything[request] for request in range(len(everything))]

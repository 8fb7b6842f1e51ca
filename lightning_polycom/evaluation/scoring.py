"""The log-likelihoods of a batch of token trees."""

import itertools
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lightning_polycom.evaluation.live_decoder import forward
from lightning_polycom.evaluation.passes import Batch
from lightning_polycom.evaluation.token_tree import Tree
from lightning_polycom.model.branches import Branches
from lightning_polycom.model.key_value_cache import KeyValueCache

LOGITS = 2**22  # values formed at a time: 16 MiB in fp32

Score = tuple[float, bool]
"""Log-likelihood in nats, and whether greedy decoding gives the continuation."""


class Scorer:
    """Makes forward passes over batches, and holds the keys and values of the beginning that they share."""

    def __init__(self, decoder: nn.Module, precision: str):
        self._decoder, self._precision = decoder, precision
        self._device = next(decoder.parameters()).device
        self._prefix: KeyValueCache | None = None

    def run(self, batch: Batch) -> dict[int, Score]:
        """One forward pass: the scores of the batch's requests, or of none where it stores its beginning."""
        if not batch.trees:
            self._prefix = KeyValueCache(1, len(batch.beginning), self._device)
            self._forward(self._tensor(batch.beginning[None]), cache=self._prefix, read=_nothing)
            return {}
        if not len(batch.beginning):
            self._prefix = None
        wanted = _wanted(batch.trees)
        places, owners, targets = (self._tensor(part) for part in wanted[:3])
        cache = None
        if self._prefix is not None or not all(tree.is_chain for tree in batch.trees):
            positions = self._tensor(_padded([tree.positions for tree in batch.trees], 0))
            ends = _padded([tree.ends for tree in batch.trees], None)
            cache = Branches(positions, self._tensor(ends), self._prefix)
        ids = self._tensor(_padded([tree.ids for tree in batch.trees], 0))
        values, greedy = self._forward(ids, cache=cache, read=lambda h, head: _score(h, head, places, owners, targets))
        back = np.argsort(wanted.order)
        return _by_request(batch.trees, values.cpu().numpy()[back], greedy.cpu().numpy()[back])

    def idle(self) -> None:
        """One forward pass for the sake of the other ranks."""
        self._forward(torch.zeros(1, 1, dtype=torch.int64, device=self._device), read=_nothing)

    def _forward(self, input_ids: Tensor, **arguments: Any) -> Any:
        return forward(self._decoder, input_ids, self._precision, **arguments)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(self._device)


def _nothing(hidden: Tensor, head: nn.Module) -> None:
    """No logits are needed."""


def _score(hidden: Tensor, head: nn.Module, places: Tensor, owners: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each target at its place, and whether it is the most likely token there.

    `places` count through (rows, columns) of `hidden`; `owners`, in ascending order, say which place each target is
    predicted at. Only so many logits are in memory at a time.
    """
    hidden, values, greedy = hidden.flatten(0, 1), [], []
    count = max(1, LOGITS // head.weight.shape[0])
    starts = torch.arange(0, len(places) + count, count, device=owners.device)
    bounds = torch.searchsorted(owners, starts).tolist()
    for part, (first, behind) in enumerate(itertools.pairwise(bounds)):
        logits = head(hidden[places[part * count : (part + 1) * count]])
        log_probabilities = torch.log_softmax(logits.float(), dim=-1)
        mine, wanted = owners[first:behind] - part * count, targets[first:behind]
        chosen = log_probabilities[mine, wanted]
        # The first of equals is the greedy one. To look for it is slow, and few targets come into question.
        best = chosen == log_probabilities.amax(-1)[mine]
        best[best.clone()] = log_probabilities[mine[best]].argmax(-1) == wanted[best]
        values.append(chosen)
        greedy.append(best)
    return torch.cat(values), torch.cat(greedy)


class Wanted(NamedTuple):
    """Places to score, which place each target belongs to, the targets, and their order before they were sorted."""

    places: np.ndarray
    owners: np.ndarray
    targets: np.ndarray
    order: np.ndarray


def _wanted(trees: list[Tree]) -> Wanted:
    """All that is scored, by place: where several continuations begin, one row of logits serves them all."""
    width = max(len(tree.ids) for tree in trees)
    flat = np.concatenate([row * width + item.columns for row, tree in enumerate(trees) for item in tree.scored])
    targets = np.concatenate([item.targets for tree in trees for item in tree.scored])
    order = np.argsort(flat, kind="stable")
    places, owners = np.unique(flat[order], return_inverse=True)
    return Wanted(places, owners, targets[order], order)


def _by_request(trees: list[Tree], values: np.ndarray, greedy: np.ndarray) -> dict[int, Score]:
    scored = [item for tree in trees for item in tree.scored]
    starts = np.cumsum([0, *(len(item.columns) for item in scored)])[:-1]
    sums, matches = np.add.reduceat(values.astype(np.float64), starts), np.logical_and.reduceat(greedy, starts)
    return {item.request: (float(s), bool(m)) for item, s, m in zip(scored, sums, matches, strict=True)}


def _padded(rows: list[np.ndarray], pad: int | None) -> np.ndarray:
    """Rows of one width; a pad is `pad`, or for None the column behind itself, so that it sees no other pad."""
    width = max(len(row) for row in rows)
    result = np.tile(np.arange(1, width + 1) if pad is None else np.full(width, pad), (len(rows), 1))
    for place, row in zip(result, rows, strict=True):
        place[: len(row)] = row
    return result

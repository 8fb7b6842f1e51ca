"""Decides which inputs share a row, and which beginnings are stored for several rows, by an estimate of the work."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lightning_polycom.evaluation.inputs import Inputs
from lightning_polycom.evaluation.token_tree import Tree, grow

LEAST_STORED = 32  # tokens: a shorter beginning is not worth a forward pass of its own
PASS = 64.0  # what that pass costs beside its tokens, in tokens
LEVELS = 8  # of beginnings within beginnings that are looked at

Range = tuple[int, int]


class Family(NamedTuple):
    """Trees behind one stored beginning, which is empty for those that have none."""

    beginning: np.ndarray
    trees: list[Tree]


class Choice(NamedTuple):
    """The work of some inputs in tokens, and those beginnings to store: first input, the one behind, tokens."""

    work: float
    stored: list[tuple[int, int, int]]


class Sharing:
    """The plan for sorted inputs.

    Work is counted in tokens of the linear layers: `token_keys` keys that tokens attend to cost as much as one token.
    A row and its stored beginning have at most `row_tokens` tokens, unless one input alone has more.
    """

    def __init__(self, inputs: Inputs, token_keys: float, row_tokens: int):
        self._inputs, self._token_keys, self._row_tokens = inputs, token_keys, row_tokens
        self._lengths, self._shared = inputs.lengths.tolist(), inputs.shared.tolist()

    def families(self) -> list[Family]:
        """All inputs as trees: first those without a stored beginning, then one family for each beginning."""
        count = len(self._lengths)
        stored = self._choose(0, count, LEVELS).stored if count else []
        free, behind = [], 0
        families = []
        for first, end, depth in stored:
            free += self._trees(behind, first, 0)
            families.append(Family(self._inputs.ids[first][:depth], self._trees(first, end, depth)))
            behind = end
        free += self._trees(behind, count, 0)
        return [Family(np.empty(0, dtype=np.int32), free), *families] if free else families

    def _trees(self, first: int, behind: int, depth: int) -> list[Tree]:
        return [grow(self._inputs, *row, depth) for row, _ in self._rows(first, behind, depth)]

    def _choose(self, first: int, behind: int, levels: int) -> Choice:
        """The cheapest of: no stored beginning, the one that all these inputs share, or those of parts of them."""
        plain = Choice(self._work(first, behind, 0), [])
        if behind - first == 1 or levels == 0:
            return plain
        shared = self._inputs.shared[first + 1 : behind]
        common = int(shared.min())
        # What is scored cannot be stored: its hidden states are gone.
        depth = min(common, int(self._inputs.scored_from[first:behind].min()))
        worth = depth >= LEAST_STORED
        bounds = [first, *(np.flatnonzero(shared == common) + first + 1).tolist(), behind]
        parts = [self._choose(*part, levels - (common >= LEAST_STORED)) for part in itertools.pairwise(bounds)]
        split = Choice(sum(part.work for part in parts), [stored for part in parts for stored in part.stored])
        choices = [plain, split] if split.stored else [plain]
        if worth:
            work = PASS + self._tokens(depth, depth) + self._work(first, behind, depth)
            choices.append(Choice(work, [(first, behind, depth)]))
        return min(choices, key=lambda choice: choice.work)

    def _work(self, first: int, behind: int, depth: int) -> float:
        return sum(work for _, work in self._rows(first, behind, depth))

    def _rows(self, first: int, behind: int, depth: int) -> Iterator[tuple[Range, float]]:
        """Neighbours share a row as long as that costs less than a row of its own; with the work of each row."""
        if first == behind:
            return
        start, tokens = first, self._lengths[first] - depth
        for number in range(first + 1, behind):
            own = self._lengths[number] - depth
            grown = tokens + self._lengths[number] - max(depth, self._shared[number])
            added = self._tokens(grown, depth + grown) - self._tokens(tokens, depth + tokens)
            if depth + grown > self._row_tokens or added > self._tokens(own, depth + own):
                yield (start, number), self._tokens(tokens, depth + tokens)
                start, grown = number, own
            tokens = grown
        yield (start, behind), self._tokens(tokens, depth + tokens)

    def _tokens(self, new: int, keys: int) -> float:
        """The work of `new` tokens that attend to `keys` each."""
        return new + new * keys / self._token_keys

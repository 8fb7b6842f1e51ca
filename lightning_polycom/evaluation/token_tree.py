"""Inputs with a common beginning as one row of a forward pass, in which the beginning stands once."""

from typing import NamedTuple

import numpy as np

from lightning_polycom.evaluation.inputs import Inputs


class Scored(NamedTuple):
    """A request, the columns of a row that predict its continuation, and that continuation."""

    request: int
    columns: np.ndarray
    targets: np.ndarray


class Tree(NamedTuple):
    """A row of tokens as `model.branches.Branches` reads it: depth first, with positions and ends."""

    ids: np.ndarray
    positions: np.ndarray
    ends: np.ndarray
    scored: list[Scored]

    @property
    def is_chain(self) -> bool:
        """Whether no token has two continuations."""
        return bool((self.ends == len(self.ids)).all())


def grow(inputs: Inputs, first: int, behind: int, depth: int) -> Tree:
    """The inputs from `first` up to `behind`, without the first `depth` tokens, which all of them share."""
    longest = max(len(ids) for ids in inputs.ids[first:behind])
    path = np.empty(longest - depth, dtype=np.int64)  # the column of each position on the current branch
    pieces, positions, scored, columns = [], [], [], 0
    ends = np.zeros(sum(len(ids) for ids in inputs.ids[first:behind]), dtype=np.int64)
    length = depth
    for number in range(first, behind):
        ids = inputs.ids[number]
        kept = depth if number == first else max(depth, int(inputs.shared[number]))
        ends[path[kept - depth : length - depth]] = columns
        length = len(ids)
        path[kept - depth : length - depth] = np.arange(columns, columns + length - kept)
        pieces.append(ids[kept:])
        positions.append(np.arange(kept, length))
        columns += length - kept
        for request in inputs.requests[number]:
            targets = inputs.targets[request]
            scored.append(Scored(request, path[length - len(targets) - depth : length - depth].copy(), targets))
    ends[path[: length - depth]] = columns
    return Tree(np.concatenate(pieces), np.concatenate(positions), ends[:columns], scored)

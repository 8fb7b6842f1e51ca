"""The distinct inputs behind a list of requests, sorted so that neighbours share the longest beginnings."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lightning_polycom.evaluation.encoding import Pair


class Inputs(NamedTuple):
    """Distinct inputs of a decoder in the order of their ids, so that all with a common beginning are neighbours.

    `shared[i]` counts the first tokens that input i has in common with the one before it. `requests[i]` are the
    numbers of the requests that input i answers, `targets` their continuations by number. The scored positions of
    an input are its last ones, from `scored_from[i]` on.
    """

    ids: list[np.ndarray]
    shared: np.ndarray
    requests: list[list[int]]
    scored_from: np.ndarray
    targets: list[np.ndarray]

    @property
    def lengths(self) -> np.ndarray:
        """The tokens of each input."""
        return np.array([len(ids) for ids in self.ids], dtype=np.int64)


def distinct_inputs(pairs: Sequence[Pair], window: int) -> Inputs:
    """What the decoder reads for each pair: both parts without the last token, which is only predicted.

    Too long an input loses its beginning: of both parts the last `window` + 1 tokens count.
    """
    found: dict[bytes, tuple[np.ndarray, list[int]]] = {}
    for number, (context, continuation) in enumerate(pairs):
        ids = np.concatenate([context, continuation])[-(window + 1) : -1]
        # Big-endian bytes sort as the numbers do.
        found.setdefault(ids.astype(">u4").tobytes(), (ids, []))[1].append(number)
    entries = [found[key] for key in sorted(found)]
    ids, requests = [entry[0] for entry in entries], [entry[1] for entry in entries]
    longest = [max(len(pairs[number].continuation) for number in numbers) for numbers in requests]
    shared = [0, *(_common(*both) for both in itertools.pairwise(ids))][: len(ids)]
    scored_from = [len(row) - scored for row, scored in zip(ids, longest, strict=True)]
    return Inputs(ids, np.array(shared), requests, np.array(scored_from), [pair.continuation for pair in pairs])


def _common(left: np.ndarray, right: np.ndarray) -> int:
    """The number of first elements in which two arrays agree."""
    length = min(len(left), len(right))
    differing = np.flatnonzero(left[:length] != right[:length])
    return int(differing[0]) if len(differing) else length

"""Figures about token shards, native or of other tools, from a bounded part of them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lightning_polycom.data.formats import ForeignShards
from lightning_polycom.data.shards import TokenShards
from lightning_polycom.errors import InputError

Shards = TokenShards | ForeignShards

SAMPLE_TOKENS = 4_000_000
_WINDOW = 16_384
_MAX_FILES, _MAX_DOCUMENTS = 32, 1_000_000


class IdCounts(NamedTuple):
    """How often ids occur among `num_sampled` tokens: int64 ids, ascending, and int64 counts of them."""

    ids: np.ndarray
    counts: np.ndarray
    num_sampled: int

    def most_frequent(self, number: int) -> list[tuple[int, int]]:
        """At most `number` pairs of id and count, the most frequent first."""
        order = np.argsort(-self.counts, kind="stable")[:number]
        return [(int(self.ids[n]), int(self.counts[n])) for n in order]


class Excerpt(NamedTuple):
    """Ids from a place in the shards: the token it begins at, and whether a document begins there and how long."""

    start: int
    ids: list[int]
    document_length: int | None


def count_ids(shards: Shards, max_tokens: int = SAMPLE_TOKENS) -> IdCounts:
    """Counts all ids, or those of windows of 16,384 tokens spread evenly, `max_tokens` in all."""
    if shards.num_tokens <= max_tokens:
        sample = shards.read(0, shards.num_tokens)
    else:
        starts = _spread(shards.num_tokens - _WINDOW + 1, max(1, max_tokens // _WINDOW))
        sample = np.concatenate([shards.read(start, _WINDOW) for start in starts])
    ids, counts = np.unique(sample, return_counts=True)
    return IdCounts(ids.astype(np.int64), counts, len(sample))


def document_lengths(shards: Shards) -> np.ndarray | None:
    """Lengths, in tokens, of about a million documents at most, from at most 32 files: int64; None if not recorded."""
    files = _spread(len(shards.files), _MAX_FILES)
    lengths = []
    for file in files:
        bounds = shards.document_bounds(file)
        if bounds is None:
            return None
        found = np.diff(bounds)
        lengths.append(found[_spread(len(found), -(-_MAX_DOCUMENTS // len(files)))])
    return np.concatenate(lengths)


def excerpts(shards: Shards, number: int, length: int) -> list[Excerpt]:
    """The beginnings, `length` ids at most, of `number` documents, or of places if documents are not recorded."""
    found = []
    for place in range(number):
        file = place * len(shards.files) // number
        bounds = shards.document_bounds(file)
        if bounds is None:
            start = place * shards.num_tokens // number
            end, document_length = shards.num_tokens, None
        else:
            document = place * (len(bounds) - 1) // number
            start, end = (shards.file_start(file) + int(bound) for bound in bounds[document : document + 2])
            document_length = end - start
        ids = shards.read(start, min(length, end - start)).tolist()
        found.append(Excerpt(start, ids, document_length))
    return found


def verify_ids(shards: Shards, vocab_size: int, report: Callable[[int], None]) -> None:
    """Reads every token; `report` is called with the number of bytes after each few million.

    Raises:
        InputError: an id outside the vocabulary.
    """
    for start in range(0, shards.num_tokens, SAMPLE_TOKENS):
        ids = shards.read(start, min(SAMPLE_TOKENS, shards.num_tokens - start))
        wrong = np.flatnonzero((ids < 0) | (ids >= vocab_size))
        if len(wrong):
            raise InputError(
                f"{shards.files[0]}: token {start + wrong[0]} is id {ids[wrong[0]]}, outside a vocabulary of "
                f"{vocab_size}; give the tokenizer that the shards were made with, or make them again"
            )
        report(ids.nbytes)


def _spread(available: int, number: int) -> list[int]:
    """At most `number` of the integers below `available`, evenly spread, the first and the last among them."""
    if available <= number:
        return list(range(available))
    return [(available - 1) * place // max(1, number - 1) for place in range(number)]

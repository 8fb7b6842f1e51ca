"""Documents with equal texts, found by their hashes, in memory that does not grow with their number.

The hashes are dealt into buckets by their first bits, through files if there are many: equal ones meet in one bucket,
and each bucket is sorted alone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_BUCKET_DOCUMENTS = 1 << 21  # about, in one bucket: 48 MB, and as much again while it is sorted

_ENTRY = np.dtype([("text", "<u8", 2), ("document", "<u8")])


@dataclass(frozen=True)
class Copies:
    """Documents of which each has the text of another one, group after group, in order within each group.

    `documents` are their numbers, int64 (n,); `starts` is where each group begins among them.
    """

    documents: np.ndarray
    starts: np.ndarray

    def any_of(self, marked: np.ndarray) -> np.ndarray:
        """For each document, whether one of its group is marked: bool (n,)."""
        return np.repeat(np.logical_or.reduceat(marked, self.starts), self._lengths)

    def repeats(self, among: np.ndarray | None = None) -> np.ndarray:
        """For each document, whether an earlier one of its group, and it itself, is in `among` (default: all)."""
        among = np.ones(len(self.documents), bool) if among is None else among
        counts = np.cumsum(among)
        before = np.repeat(counts[self.starts] - among[self.starts], self._lengths)
        return among & (counts - before > 1)

    @property
    def _lengths(self) -> np.ndarray:
        return np.diff(self.starts, append=len(self.documents))


def find_copies(hashes: Iterable[np.ndarray], num_documents: int, folder: Path) -> Iterator[Copies]:
    """All documents whose hash another one has, some at a time.

    Args:
        hashes: Blocks of the documents' hashes in order, uint64 (n, 2).
        num_documents: How many there are.
        folder: For the buckets; nothing stays there.
    """
    num_buckets = -(-num_documents // _BUCKET_DOCUMENTS)
    if num_buckets == 1:
        yield from _copies_in(np.concatenate(list(_entries(hashes))))
        return
    paths = [folder / f"bucket-{number:05d}" for number in range(num_buckets)]
    for path in paths:
        path.unlink(missing_ok=True)
    for entries in _entries(hashes):
        _deal(entries, paths)
    for path in paths:
        if path.exists():
            yield from _copies_in(np.fromfile(path, _ENTRY))
            path.unlink()


def _entries(hashes: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    first = 0
    for block in hashes:
        entries = np.empty(len(block), _ENTRY)
        entries["text"], entries["document"] = block, np.arange(first, first + len(block))
        first += len(block)
        yield entries


def _deal(entries: np.ndarray, paths: list[Path]) -> None:
    """Appends every entry to its bucket's file."""
    buckets = (entries["text"][:, 0] >> np.uint64(32)) * np.uint64(len(paths)) >> np.uint64(32)
    order = np.argsort(buckets, kind="stable")
    bounds = np.searchsorted(buckets[order], np.arange(len(paths) + 1))
    for path, begin, end in zip(paths, bounds, bounds[1:], strict=False):
        if end > begin:
            with path.open("ab") as file:
                entries[order[begin:end]].tofile(file)


def _copies_in(entries: np.ndarray) -> Iterator[Copies]:
    entries = entries[np.lexsort((entries["document"], entries["text"][:, 1], entries["text"][:, 0]))]
    same = (entries["text"][1:] == entries["text"][:-1]).all(1)  # as the one before
    follows = np.concatenate([[False], same])
    copied = follows | np.concatenate([same, [False]])
    if copied.any():
        yield Copies(entries["document"][copied].astype(np.int64), np.flatnonzero(~follows[copied]))

"""Stretches of token ids in files, read as one sequence, whoever wrote the files.

A read is one system call, not a copy from a memory map: that would fault on every page that the process has not touched
yet, which is nearly every window in training, and count the pages as the process' memory.
"""

import os
import resource
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lightning_polycom.errors import InputError

_WANTED_DESCRIPTORS = 16_384


def parse_dtype(dtype: str | np.dtype) -> np.dtype:
    """The little-endian dtype that a user names.

    Raises:
        InputError: no integer dtype.
    """
    try:
        parsed = np.dtype(dtype).newbyteorder("<")
    except TypeError as error:
        raise InputError(f"dtype: found {dtype!r}; write one such as uint16 or uint32") from error
    if parsed.kind not in "iu":
        raise InputError(f"dtype: found {parsed.name}; token ids are integers, such as uint16 or uint32")
    return parsed


class Segment(NamedTuple):
    """Ids that lie one behind the other in a file: where they begin, in bytes, and how many there are."""

    file: Path
    byte_offset: int
    num_tokens: int


class TokenSequence:
    """The ids of some segments as one sequence; only the slices that are asked for are read and copied.

    Files are opened when they are first read from, those that were opened first are closed. Memory is three integers
    per segment.

    Attributes:
        num_tokens: Sum over the segments.
        dtype: numpy dtype of the ids on disk and in `read`.
        files: The segments' files, each once, in order.
    """

    def __init__(self, dtype: np.dtype, segments: Sequence[Segment]):
        self.dtype = dtype
        numbers: dict[Path, int] = {}
        self._segment_files = np.array([numbers.setdefault(s.file, len(numbers)) for s in segments], np.int64)
        self._byte_offsets = np.array([segment.byte_offset for segment in segments], np.int64)
        self._bounds = np.cumsum([0, *(segment.num_tokens for segment in segments)])
        self.files = list(numbers)
        self.num_tokens = int(self._bounds[-1])
        self._open: dict[int, _File] = {}

    def read(self, start: int, length: int) -> np.ndarray:
        """Tokens [start, start + length), across segments and files: `dtype` (length,).

        Raises:
            InputError: the range leaves [0, num_tokens], or a file is no longer what it was when it was opened.
        """
        return self.read_batch(np.array([start]), length, self.dtype)[0]

    def read_batch(self, starts: np.ndarray, length: int, dtype: np.dtype | type = np.int64) -> np.ndarray:
        """Windows of `length` tokens at each of `starts`: `dtype` (len(starts), length).

        Raises:
            InputError: a range leaves [0, num_tokens], or a file is no longer what it was when it was opened.
        """
        out = np.empty((len(starts), length), self.dtype)
        data, row_bytes = memoryview(out.reshape(-1).view(np.uint8)), length * self.dtype.itemsize
        for row, start in enumerate(starts.tolist()):
            self._fill(data[row * row_bytes : (row + 1) * row_bytes], start)
        return out.astype(dtype, copy=False)

    def file_start(self, file: int) -> int:
        """The position in the sequence of the first token of `files[file]`."""
        return int(self._bounds[np.argmax(self._segment_files == file)])

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_open": {}}

    def _fill(self, out: memoryview, start: int) -> None:
        """Reads the bytes of as many tokens as fit in `out`, from `start` on."""
        bounds, itemsize = self._bounds, self.dtype.itemsize
        end = start + len(out) // itemsize
        if start < 0 or end > self.num_tokens:
            where = self.files[0] if len(self.files) == 1 else self.files[0].parent
            raise InputError(
                f"tokens {start} to {end} lie outside {where}, which has {self.num_tokens} tokens; read within them"
            )
        segment = int(bounds.searchsorted(start, "right")) - 1
        while out:
            segment_end = bounds.item(segment + 1)
            offset = self._byte_offsets.item(segment) + (start - bounds.item(segment)) * itemsize
            available = (segment_end - start) * itemsize
            self._file(self._segment_files.item(segment)).read(out[:available], offset)
            out, start, segment = out[available:], segment_end, segment + 1

    def _file(self, number: int) -> "_File":
        if number not in self._open:
            if len(self._open) >= _max_open_files():
                self._open.pop(next(iter(self._open)))
            self._open[number] = _File(self.files[number])
        return self._open[number]


@lru_cache(maxsize=1)
def _max_open_files() -> int:
    """Half of the descriptors that the process may have; their soft limit, usually 1,024, is raised if it may be.

    Opening a file for every window would halve the speed, and cost more on a network's file system.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > soft:
        soft = _WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _WANTED_DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft // 2


class _File:
    """A file that is open for reads at any offset until it is garbage; without a position, so that forks may share it.

    Raises:
        InputError: it cannot be opened.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise InputError(
                f"{path}: {error.strerror}; it was changed while it was in use, so bring it back"
            ) from error

    def __del__(self):
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def read(self, out: memoryview, offset: int) -> None:
        """Fills `out` with the bytes from `offset` on.

        Raises:
            InputError: the file ends before.
        """
        while out:
            count = os.preadv(self._descriptor, [out], offset)
            if not count:
                raise InputError(
                    f"{self.path}: it ends at byte {os.fstat(self._descriptor).st_size}, ids up to byte "
                    f"{offset + len(out)} were expected; it was changed while it was in use, so bring it back"
                )
            out, offset = out[count:], offset + count

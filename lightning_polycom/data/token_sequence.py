"""Stretches of token ids in files, read as one sequence through memory maps, whoever wrote the files."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lightning_polycom.errors import InputError

# Each map holds a file descriptor, of which a process usually has 1,024.
_MAX_OPEN_MAPS = 256


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

    Files are mapped when they are first read from, the least recently mapped ones are let go. Memory is three integers
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
        self._maps: dict[int, np.ndarray] = {}

    def read(self, start: int, length: int) -> np.ndarray:
        """Tokens [start, start + length), across segments and files: `dtype` (length,).

        Raises:
            InputError: the range leaves [0, num_tokens].
        """
        out = np.empty(length, self.dtype)
        self._fill(out, start)
        return out

    def read_batch(self, starts: np.ndarray, length: int) -> np.ndarray:
        """Windows of `length` tokens at each of `starts`: int64 (len(starts), length).

        Raises:
            InputError: a range leaves [0, num_tokens].
        """
        out = np.empty((len(starts), length), np.int64)
        for row, start in zip(out, starts, strict=True):
            self._fill(row, int(start))
        return out

    def file_start(self, file: int) -> int:
        """The position in the sequence of the first token of `files[file]`."""
        return int(self._bounds[np.argmax(self._segment_files == file)])

    def __getstate__(self) -> dict:
        # A pickled memory map would carry its whole file.
        return {**self.__dict__, "_maps": {}}

    def _fill(self, out: np.ndarray, start: int) -> None:
        if start < 0 or start + len(out) > self.num_tokens:
            where = self.files[0] if len(self.files) == 1 else self.files[0].parent
            raise InputError(
                f"tokens {start} to {start + len(out)} lie outside {where}, which has {self.num_tokens} tokens; "
                "read within them"
            )
        segment = int(np.searchsorted(self._bounds, start, side="right")) - 1
        filled = 0
        while filled < len(out):
            offset = start + filled - int(self._bounds[segment])
            part = self._tokens(segment, offset, len(out) - filled)
            out[filled : filled + len(part)] = part
            filled += len(part)
            segment += 1

    def _tokens(self, segment: int, offset: int, length: int) -> np.ndarray:
        """At most `length` ids of a segment from its `offset` on, as a view of the file's map."""
        available = int(self._bounds[segment + 1] - self._bounds[segment])
        begin = int(self._byte_offsets[segment]) + offset * self.dtype.itemsize
        end = begin + min(length, available - offset) * self.dtype.itemsize
        return self._map(int(self._segment_files[segment]))[begin:end].view(self.dtype)

    def _map(self, file: int) -> np.ndarray:
        """The bytes of a file: uint8."""
        if file not in self._maps:
            if len(self._maps) >= _MAX_OPEN_MAPS:
                self._maps.pop(next(iter(self._maps)))
            # As a plain array: np.memmap runs Python code at each slice.
            self._maps[file] = np.memmap(self.files[file], np.uint8, mode="r").view(np.ndarray)
        return self._maps[file]

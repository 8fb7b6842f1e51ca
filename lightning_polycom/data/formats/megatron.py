"""Megatron's indexed data sets: `.bin` of ids, and an `.idx` of sequences and documents beside it.

The index: magic MMIDIDX and two zero bytes, uint64 version, uint8 dtype code, uint64 number of sequences n, uint64
number of document bounds d, then int32 lengths (n), int64 byte pointers (n), int64 document bounds in sequences (d),
and for multimodal sets one mode byte per sequence.
"""

import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from lightning_polycom.data.formats.foreign import TokenFile
from lightning_polycom.errors import InputError

MAGIC = b"MMIDIDX\x00\x00"
_HEADER = struct.Struct("<9sQBQQ")
DTYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f4", 8: "<u2"}
"""The code table of the index, in which 6 and 7 are floats and so hold no ids."""


@dataclass(frozen=True)
class MegatronDocuments:
    """The documents of an index that `read` has checked."""

    index: Path
    num_sequences: int
    num_bounds: int
    num_tokens: int
    itemsize: int

    def count(self) -> int:
        """Documents, each of one sequence or more."""
        return self.num_bounds - 1

    def bounds(self) -> np.ndarray:
        """Token positions, from the pointers at the first sequence of each document.

        Raises:
            InputError: a document that begins at no sequence.
        """
        _, pointers, bounds = _map_index(self.index, self.num_sequences, self.num_bounds)
        if bounds.min() < 0 or bounds.max() > self.num_sequences:
            raise InputError(
                f"{self.index}: documents begin at sequences {bounds.min()} to {bounds.max()}, it has "
                f"{self.num_sequences}; copy it again"
            )
        # The last documents may be empty and then begin behind the last sequence.
        return np.append(pointers // self.itemsize, self.num_tokens)[bounds]


def read(index: Path) -> TokenFile:
    """The `.bin` beside the given `.idx`; only the ends of the index are read.

    Raises:
        InputError: an unknown magic number, version or dtype, no `.bin`, or sizes that do not fit each other.
    """
    dtype, num_sequences, num_bounds = _read_header(index)
    path, found = index.with_suffix(".bin"), index.stat().st_size
    expected = _HEADER.size + 12 * num_sequences + 8 * num_bounds
    if found not in (expected, expected + num_sequences):
        raise InputError(
            f"{index}: {found} bytes found, {expected} expected for {num_sequences} sequences and {num_bounds} "
            "document bounds; copy it again"
        )
    if not path.is_file():
        raise InputError(f"{path}: missing, {index.name} is its index; copy it too")
    if num_sequences < 1 or num_bounds < 2:
        raise InputError(f"{index}: {num_sequences} sequences in {num_bounds - 1} documents found; leave it out")
    lengths, pointers, bounds = _map_index(index, num_sequences, num_bounds)
    expected, found = int(pointers[-1]) + int(lengths[-1]) * dtype.itemsize, path.stat().st_size
    if found != expected:
        raise InputError(
            f"{path}: {found} bytes found, {expected} expected by {index.name} for {dtype.name} ids; copy both again"
        )
    if pointers[0] != 0 or bounds[0] != 0 or bounds[-1] != num_sequences:
        raise InputError(
            f"{index}: documents {bounds[0]} to {bounds[-1]} of {num_sequences} sequences, the first at byte "
            f"{pointers[0]}; expected 0 to {num_sequences} from byte 0: copy it again"
        )
    documents = MegatronDocuments(index, num_sequences, num_bounds, found // dtype.itemsize, dtype.itemsize)
    return TokenFile.whole(path, "Megatron", dtype, documents=documents)


def _read_header(index: Path) -> tuple[np.dtype, int, int]:
    """The dtype of the ids, the number of sequences and that of document bounds."""
    with index.open("rb") as file:
        head = file.read(_HEADER.size)
    if not head.startswith(MAGIC):
        raise InputError(f"{index}: begins with {head[:9]!r}, expected {MAGIC!r}; write the index again with Megatron")
    if len(head) < _HEADER.size:
        raise InputError(f"{index}: {len(head)} bytes found, {_HEADER.size} expected of the header; copy it again")
    _, version, code, num_sequences, num_bounds = _HEADER.unpack(head)
    if version != 1:
        raise InputError(f"{index}: version {version} found, 1 is known; write the index again with Megatron")
    dtype = np.dtype(DTYPES.get(code, "f4"))
    if dtype.kind == "f":
        raise InputError(
            f"{index}: dtype code {code} ({DTYPES.get(code, 'unknown')}) is no known integer; write the ids as integers"
        )
    return dtype, num_sequences, num_bounds


def _map_index(index: Path, num_sequences: int, num_bounds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps of the sequences' lengths and byte pointers and of the documents' bounds."""
    data = np.memmap(index, np.uint8, mode="r").view(np.ndarray)
    ends = _HEADER.size + np.cumsum([0, 4 * num_sequences, 8 * num_sequences, 8 * num_bounds])
    parts = [data[begin:end] for begin, end in pairwise(ends)]
    return parts[0].view("<i4"), parts[1].view("<i8"), parts[2].view("<i8")

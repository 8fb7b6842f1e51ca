"""Chunks that litdata's `optimize` wrote with its TokensLoader: an `index.json` that names `chunk-*.bin` beside it.

A chunk: uint32 number of items n, uint32 byte offsets of the items in the file (n + 1), then their ids, one item behind
the other. litdata reads blocks inside a chunk and drops the rest of it; here the chunks are one sequence.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lightning_polycom.data.formats.foreign import TokenFile
from lightning_polycom.errors import InputError

FORMAT = "litdata"
INDEX_NAME = "index.json"
# litdata's own numbers, of torch's types and of NumPy's; those of other types hold no ids.
_TORCH = {11: "u1", 12: "i1", 13: "<i2", 14: "<i2", 15: "<i4", 16: "<i4", 17: "<i8", 18: "<i8", 20: "<u2"}
_NUMPY = {0: "i1", 1: "<i2", 2: "<i4", 3: "<i8", 4: "u1", 5: "<u2", 6: "<u4", 7: "<u8"}
_DTYPES = {"no_header_tensor": _TORCH, "no_header_numpy": _NUMPY}


class Index(NamedTuple):
    """What index.json says: how the ids are written, and each chunk's name and number of ids, in order."""

    config: dict[str, Any]
    num_tokens: dict[str, int]


@dataclass(frozen=True)
class Items:
    """The items of one chunk as documents, which they are if `optimize` was given one document at a time."""

    path: Path
    num_items: int
    itemsize: int

    def count(self) -> int:
        """Items."""
        return self.num_items

    def bounds(self) -> np.ndarray:
        """The byte offsets, as tokens."""
        offsets = np.memmap(self.path, "<u4", mode="r", offset=4, shape=(self.num_items + 1,)).astype(np.int64)
        return (offsets - offsets[0]) // self.itemsize


def chunks_of(folder: Path) -> list[Path]:
    """The chunks that the folder's index names, in its order; none if it has no index of litdata."""
    index = _read_index(folder)
    return [] if index is None else [folder / name for name in index.num_tokens]


def recognize(path: Path) -> bool:
    """Whether an index of litdata beside the file names it."""
    index = _read_index(path.parent)
    return index is not None and path.name in index.num_tokens


def read(path: Path) -> TokenFile:
    """One chunk, by the index beside it; reads its header only.

    Raises:
        InputError: compressed or encrypted chunks, items that are not ids one behind the other, a size or a number of
            ids that the index or the header does not explain.
    """
    index = _read_index(path.parent)
    dtype, num_tokens = _dtype(path.with_name(INDEX_NAME), index.config), index.num_tokens[path.name]
    if not path.is_file():
        raise InputError(f"{path}: missing, {INDEX_NAME} beside it names it; copy it too")
    num_items, begin, end = _header(path)
    found, expected = path.stat().st_size, begin + num_tokens * dtype.itemsize
    if begin != 4 * (num_items + 2) or not found == end == expected:
        raise InputError(
            f"{path}: {found} bytes found, {expected} expected for {num_tokens} {dtype.name} ids of {INDEX_NAME} "
            f"and a header of {num_items} items that ends at byte {end}; copy both again"
        )
    return TokenFile.whole(path, FORMAT, dtype, begin, Items(path, num_items, dtype.itemsize))


def _header(path: Path) -> tuple[int, int, int]:
    """The number of items, and the bytes at which the first begins and the last ends."""
    size = path.stat().st_size
    with path.open("rb") as file:
        num_items = int.from_bytes(file.read(4), "little")
        if size < 4 * (num_items + 2):
            raise InputError(f"{path}: {size} bytes found, too few for a header of {num_items} items; copy it again")
        begin = int.from_bytes(file.read(4), "little")
        file.seek(4 * (num_items + 1))
        return num_items, begin, int.from_bytes(file.read(4), "little")


def _dtype(index: Path, config: dict[str, Any]) -> np.dtype:
    """The dtype of the ids, where the chunks hold nothing else."""
    for key in ("compression", "encryption"):
        if config.get(key):
            raise InputError(f"{index}: chunks with {key} ({config[key]}) cannot be mapped; write them without")
    formats = config.get("data_format") or []
    kind, _, code = str(formats[0]).partition(":") if len(formats) == 1 else ("", "", "")
    known = _DTYPES.get(kind, {}).get(int(code) if code.isdecimal() else -1)
    if known is None or config.get("item_loader") != "TokensLoader":
        raise InputError(
            f"{index}: items are {formats} for {config.get('item_loader')}, expected one tensor of integers for "
            "TokensLoader; optimize it again with item_loader=TokensLoader()"
        )
    return np.dtype(known)


def _read_index(folder: Path) -> Index | None:
    """The index in a folder, or None if there is none of litdata there."""
    path = folder / INDEX_NAME
    try:
        status = path.stat()
    except OSError:
        return None
    return _parse_index(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)  # read once and not for each of thousands of chunks, unless it changes
def _parse_index(path: Path, _modified: int, _size: int) -> Index | None:
    """As `_read_index`.

    Raises:
        InputError: an index of litdata that lacks what a reader needs.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):  # another tool's file may have that name
        return None
    if not isinstance(value, dict) or not isinstance(value.get("chunks"), list):
        return None
    try:
        index = Index(dict(value["config"]), {Path(c["filename"]).name: int(c["dim"]) for c in value["chunks"]})
    except (KeyError, TypeError, ValueError):
        index = None
    if index is None or not index.num_tokens:
        raise InputError(
            f"{path}: an index of litdata without chunks, their `filename` and `dim` or a `config`; optimize it again "
            "with item_loader=TokensLoader()"
        )
    return index

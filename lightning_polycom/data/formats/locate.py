"""From a path to the files of another tool, and to the reader of each file's format."""

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lightning_polycom.data.formats import dolma, litdata, llmc, megatron, numpy_file, raw, saved_dataset
from lightning_polycom.data.formats.foreign import ForeignShards, TokenFile
from lightning_polycom.data.token_sequence import parse_dtype
from lightning_polycom.errors import InputError

# In a folder; a file that is named by itself may have any name.
_SUFFIXES = (".bin", ".npy")
_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


def open_foreign(
    path: str | os.PathLike | Sequence[str | os.PathLike],
    split: str = "train",
    dtype: str | np.dtype | None = None,
    vocab_size: int | None = None,
) -> ForeignShards:
    """Opens what another tool wrote; see `open_shards`, which calls it.

    Raises:
        InputError: nothing there, an unknown or damaged format, a dtype or vocabulary that does not fit.
    """
    paths = [Path(path)] if isinstance(path, (str, os.PathLike)) else [Path(item) for item in path]
    if not paths:
        raise InputError("shards: the list is empty; name a file, a folder or a glob")
    known = None if dtype is None else parse_dtype(dtype)
    files: list[TokenFile] = []
    for item in paths:
        for found in _resolve(item, split):
            # The first file's sidecar tells whether the dtype that was given is right, whatever the number of files.
            files += _read(found, split, known, check=not files)
    shards = ForeignShards(files)
    if vocab_size is not None:
        shards.check_vocabulary(vocab_size)
    return shards


def _resolve(path: Path, split: str) -> list[Path]:
    """The files or saved data sets that a path, a glob or Megatron's prefix stands for, sorted."""
    if path.is_dir():
        if saved_dataset.recognize(path):
            return [path]
        return litdata.chunks_of(path) or _files_of_folder(path, split)
    if path.is_file():
        return [path]
    if glob.has_magic(str(path)):
        found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
        files = [p for p in found if p.suffix in _SUFFIXES and p.is_file()]
        if not files:
            raise InputError(f"{path}: matches no file ending in {' or '.join(_SUFFIXES)}; correct the glob")
        return files
    prefixed = path.with_name(path.name + ".idx")
    if prefixed.is_file():
        return [prefixed]
    raise InputError(f"{path}: not found; name a prepared folder, or token files of another tool")


def _files_of_folder(folder: Path, split: str) -> list[Path]:
    """The token files right in a folder; where their names tell splits apart, those of `split` only."""
    files = sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES and not p.name.startswith("."))
    if not files:
        raise InputError(
            f"{folder}: no token shards (no manifest.json of `polycom prepare`, no .bin or .npy file, no saved data "
            "set); make them with `polycom prepare`, or name the folder that has them"
        )
    splits = {file: _split_of(file) for file in files}
    if not any(splits.values()):
        splits = dict.fromkeys(files, "train")
    chosen = [file for file in files if splits[file] == split]
    if not chosen:
        found = ", ".join(sorted({name or "no split in its name" for name in splits.values()}))
        raise InputError(f"{folder}: no file of split {split!r}, only of {found}; name the files or a glob")
    return chosen


def _split_of(file: Path) -> str | None:
    words = re.split(r"[^a-z]+", file.stem.lower())
    return next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), None)


def _read(path: Path, split: str, dtype: np.dtype | None, check: bool) -> list[TokenFile]:
    """The file, or the files of a saved data set, by their contents."""
    files = saved_dataset.read(path, split) if path.is_dir() else [_read_file(path, dtype, check)]
    for file in files:
        if dtype is not None and dtype != file.dtype:
            raise InputError(
                f"{file.path}: its {file.path.stat().st_size} bytes hold {file.dtype.name} ids ({file.format}), not "
                f"{dtype.name}; leave the dtype out"
            )
    return files


def _read_file(path: Path, dtype: np.dtype | None, check: bool) -> TokenFile:
    # Before anything is read: a chunk begins with a number that may be like any other.
    if litdata.recognize(path):
        return litdata.read(path)
    with path.open("rb") as file:
        head = file.read(llmc.HEADER_BYTES)
    if head.startswith(megatron.MAGIC) or path.suffix == ".idx":
        return megatron.read(path)
    # Before the ids themselves are looked at, which may begin like anything.
    if path.suffix != ".idx" and path.with_suffix(".idx").is_file():
        return megatron.read(path.with_suffix(".idx"))
    if head.startswith(numpy_file.MAGIC):
        return numpy_file.read(path)
    if llmc.recognize(head):
        return llmc.read(path)
    if dolma.sidecar_of(path).is_file() and path.suffixes[-2:] != [".csv", ".gz"]:
        return dolma.read(path, dtype, check)
    return raw.read(path, dtype)

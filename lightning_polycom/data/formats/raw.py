"""Ids and nothing else, as nanoGPT writes them: the dtype has to be told."""

import json
from pathlib import Path

import numpy as np

from lightning_polycom.data.formats.foreign import TokenFile
from lightning_polycom.errors import InputError

FORMAT = "raw ids without header (nanoGPT)"


def read(path: Path, dtype: np.dtype | None) -> TokenFile:
    """The file as raw ids.

    Raises:
        InputError: no dtype given, one that does not fit the size, or a file of a format that is known not to be raw.
    """
    _refuse_indexed(path)
    if dtype is None:
        with path.open("rb") as file:
            head = file.read(8).hex(" ")
        raise InputError(
            f"{path}: {path.stat().st_size} bytes that begin with no known magic number (found {head}) and have no "
            "sidecar; if they are raw ids, give their dtype, such as uint16"
        )
    return TokenFile.whole(path, FORMAT, dtype)


def _refuse_indexed(path: Path) -> None:
    """MosaicML Streaming names its shards in an index.json; read as raw ids, their headers would pass for tokens."""
    index = path.with_name("index.json")
    if not index.is_file():
        return
    try:
        value = json.loads(index.read_bytes())
    except ValueError:
        return
    if isinstance(value, dict) and isinstance(value.get("shards"), list) and path.name in json.dumps(value["shards"]):
        raise InputError(f"{path}: a shard of MosaicML Streaming (see {index}), which is not read; export its ids")

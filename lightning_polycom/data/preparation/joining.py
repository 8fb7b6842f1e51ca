"""Encoded segments to shards: the segments of a split and domain, one after another, in files of the size asked for."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from lightning_polycom.data.manifest import ShardFile
from lightning_polycom.data.preparation.encoding import read_held_out
from lightning_polycom.data.preparation.heldout_tasks import HeldOutPool
from lightning_polycom.data.preparation.workers import report
from lightning_polycom.data.shards import ShardWriter
from lightning_polycom.errors import InputError


class JoinTask(NamedTuple):
    """The segments of a domain that go into the shards of a split, in order."""

    folder: Path
    split: str
    domain: str
    dtype: np.dtype
    shard_tokens: int
    segments: list[Path]


@dataclass
class Joined:
    """The shards of a split and domain, the held-out documents for questions, and how many were left out."""

    shards: list[ShardFile] = field(default_factory=list)
    pool: HeldOutPool = field(default_factory=HeldOutPool)
    num_repetitive: int = 0


def join_segments(task: JoinTask) -> Joined:
    """Writes the shards. Which documents are in which file does not depend on where the segments were cut.

    Raises:
        InputError: the file of a segment is damaged.
    """
    joined = Joined()
    writer = ShardWriter(task.folder, task.split, task.domain, task.dtype, task.shard_tokens)
    for path in task.segments:
        try:
            _add_segment(path, task.split, writer, joined)
        except (BadZipFile, ValueError, KeyError, EOFError) as error:
            raise InputError(f"{path}: damaged ({error}); delete it and run the same command again") from error
    joined.shards = writer.close()
    return joined


def _add_segment(path: Path, split: str, writer: ShardWriter, joined: Joined) -> None:
    with np.load(path, allow_pickle=False) as segment:
        ids, tokens, num_bytes = (segment[f"{split}_{name}"] for name in ("ids", "tokens", "bytes"))
        writer.add_documents(ids, tokens, num_bytes)
        if split == "validation":
            for document in read_held_out(segment["held_out"]):
                joined.pool.add(document)
        else:
            joined.num_repetitive += int(segment["num_repetitive"])
    report(len(tokens), int(num_bytes.sum()), len(ids))

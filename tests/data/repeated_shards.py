"""Prepared shards in which some samples are made to repeat a token."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lightning_polycom.data import open_shards


def repeated_copy(prepared: Path, folder: Path, length: int, runs: Iterable[tuple[int, int, int]]) -> Path:
    """A copy of a prepared folder in which each (sample, offset, count) of `runs` is a run of one id.

    Samples are the windows of `length` tokens of its first training file.
    """
    shutil.copytree(prepared, folder)
    file = open_shards(folder, "train").files[0]
    ids = np.fromfile(file, "<u2")
    for sample, offset, count in runs:
        start = sample * length + offset
        ids[start - 1 : start + count + 1] = 6, *[7] * count, 8
    ids.tofile(file)
    return folder

"""A sharded checkpoint as one file, with the file itself as the memory that it is put together in."""

import mmap
import os
from pathlib import Path
from typing import Any

import torch

from lightning_polycom.atomic import atomic_path
from lightning_polycom.checkpoints.sharded import cannot_be_saved, empty_joined, read_into, stored_tensors


def write_joined(folder: Path, output: Path, with_optimizer: bool) -> None:
    """Writes a sharded checkpoint in the single-file form to `output`, whole or not at all.

    The file is laid out without its tensors first and then mapped, and each stored piece is copied to its place. So
    the process holds one piece at a time, and the system writes the file out as it needs the memory.

    Raises:
        InputError: the checkpoint is incomplete or damaged, or the disk has no room.
    """
    checkpoint = empty_joined(folder, with_optimizer)
    try:
        with atomic_path(output) as temporary:
            with torch.serialization.skip_data():
                torch.save(checkpoint, temporary)
            _reserve(temporary)
            mapped = _mapped(temporary)
            read_into(folder, stored_tensors(mapped, folder), together=False)
    except (OSError, RuntimeError) as error:
        raise cannot_be_saved(output, error) from error


def _reserve(path: Path) -> None:
    """Takes the room on disk now: where it lacks later, the mapping would kill the process."""
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _mapped(path: Path) -> dict[str, Any]:
    """The checkpoint with tensors that are the file: what is written to them is in it."""
    with torch.serialization.set_default_mmap_options(mmap.MAP_SHARED):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)

"""Checkpoints of one process and of DDP: one file."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from lightning_polycom.atomic import atomic_path
from lightning_polycom.checkpoints.background import Save
from lightning_polycom.checkpoints.complete import is_sharded, remove
from lightning_polycom.checkpoints.load import read_checkpoint
from lightning_polycom.checkpoints.sharded import cannot_be_saved, read_joined


def write_file(checkpoint: dict[str, Any], path: Path) -> None:
    """Writes `checkpoint` to the file `path`, whole or not at all.

    Raises:
        InputError: the disk is full, or the path cannot be written for another reason.
    """
    try:
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)
            if path.is_dir():
                remove(path)  # a damaged sharded one of the same step
    except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as RuntimeError
        raise cannot_be_saved(path, error) from error


class CheckpointFiles(CheckpointIO):
    """Writes one file, whole or not at all; reads one, or a sharded checkpoint joined on the CPU."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Save | None = None
    ) -> None:
        """Writes `checkpoint` under a temporary name and renames it; when and where `storage_options` says.

        Raises:
            InputError: without `storage_options`, as `write_file`.
        """
        write = partial(write_file, path=Path(path))
        if storage_options is None:
            write(checkpoint)
        else:
            storage_options.run(write, checkpoint)

    def load_checkpoint(
        self, path: str | Path, map_location: Callable | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The checkpoint, on the CPU; nothing in it is executed, whatever `weights_only` says."""
        path = Path(path)
        return read_joined(path, with_optimizer=True) if is_sharded(path) else read_checkpoint(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Deletes a checkpoint of either form."""
        remove(Path(path))

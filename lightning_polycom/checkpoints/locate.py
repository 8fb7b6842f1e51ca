"""From what a user types to one checkpoint: a file or the folder of a sharded one."""

import os
from pathlib import Path

from lightning_polycom.checkpoints.complete import is_sharded
from lightning_polycom.errors import InputError
from lightning_polycom.training.run_folder import newest_run


def locate_checkpoint(path: str | os.PathLike) -> Path:
    """The checkpoint that `path` means.

    A file, or the folder of a sharded checkpoint, is itself; a run's folder, or its checkpoints folder, means the
    newest step; runs/<name> means the run below it that saved last. Links such as last.ckpt are followed.

    Raises:
        InputError: the path does not exist, or holds no checkpoint.
    """
    path = Path(path)
    if path.is_file() or is_sharded(path):
        return path.resolve() if path.is_symlink() else path
    if not path.is_dir():
        raise InputError(f"checkpoint: {path} does not exist; give a .ckpt file or a run's folder, such as runs/NAME")
    if (run := newest_run(path)) is not None:
        path = run
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    steps = sorted(folder.glob("step-*.ckpt"))
    if not steps:
        raise InputError(f"checkpoint: {path} holds no checkpoints/step-*.ckpt; was the run stopped before the first?")
    return steps[-1]


def run_folder_of(checkpoint: Path) -> Path:
    """The run's folder that a checkpoint lies in."""
    return checkpoint.parent.parent

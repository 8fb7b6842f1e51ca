"""Which checkpoints of a run are complete, and the newest of them."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from lightning_polycom.errors import InputError

RECORD = "complete.json"  # in a sharded checkpoint: written last, with the size of every other file


class Found(NamedTuple):
    """The newest complete checkpoint, or None, and what was passed over on the way to it, with the reason."""

    checkpoint: Path | None
    skipped: list[tuple[Path, str]]


def is_sharded(path: Path) -> bool:
    """Whether `path` is the folder of a sharded checkpoint, complete or not."""
    return path.is_dir() and (path.suffix == ".ckpt" or (path / RECORD).is_file())


def require_complete(folder: Path) -> None:
    """Checks that every file of a sharded checkpoint is there and has the size that was written.

    Raises:
        InputError: what is missing.
    """
    try:
        files = json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"]
        sizes = {name: (folder / name).stat().st_size for name in files if (folder / name).is_file()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"checkpoint: {folder} is incomplete, {RECORD} is missing or damaged") from error
    wrong = [name for name, size in files.items() if sizes.get(name) != size]
    if wrong:
        raise InputError(f"checkpoint: {folder} is incomplete, {wrong[0]} is missing or cut short")


def newest_complete(run_folder: Path) -> Found:
    """The newest checkpoint of a run that training can go on from."""
    from lightning_polycom.checkpoints.load import read_for_resume

    skipped = []
    for path in sorted((run_folder / "checkpoints").glob("step-*.ckpt"), reverse=True):
        try:
            read_for_resume(path)
        except InputError as error:
            skipped.append((path, str(error)))
        else:
            return Found(path, skipped)
    return Found(None, skipped)


def remove(path: Path) -> None:
    """Deletes a checkpoint so that a kill on the way leaves nothing under a checkpoint's name."""
    if path.is_dir() and not path.is_symlink():
        doomed = path.with_name(f".{path.name}.old.tmp")
        shutil.rmtree(doomed, ignore_errors=True)
        path.replace(doomed)
        shutil.rmtree(doomed)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Deletes what saves that were killed have left under temporary names."""
    for path in [*folder.glob(".step-*.tmp"), *folder.glob(".last.*.tmp")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

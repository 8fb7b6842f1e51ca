"""A folder that appears whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_polycom.errors import InputError


def refuse_other_content(folder: Path, marker: str | None) -> None:
    """Raises where writing `folder` would destroy something.

    Raises:
        InputError: it is a file, or holds anything without holding the file `marker`.
    """
    if folder.is_dir():
        replaceable = marker is not None and (folder / marker).is_file()
        if any(folder.iterdir()) and not replaceable:
            raise InputError(f"output: {folder} exists and was not written by this command; name a new folder")
    elif folder.exists() or folder.is_symlink():
        raise InputError(f"output: {folder} is a file; name a new folder")


@contextmanager
def new_folder(folder: Path, marker: str | None = None) -> Iterator[Path]:
    """Yields an empty folder beside `folder` and renames it to `folder` if the block succeeds; removes it if it fails.

    An earlier folder that holds the file `marker` is replaced.

    Raises:
        InputError: as `refuse_other_content`.
    """
    refuse_other_content(folder, marker)
    folder = folder.absolute()
    building, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("building", "old"))
    building.mkdir(parents=True)
    try:
        yield building
        for path in building.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        refuse_other_content(folder, marker)
        if folder.exists():
            folder.rename(old)
        try:
            building.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        for left in (building, old):
            shutil.rmtree(left, ignore_errors=True)

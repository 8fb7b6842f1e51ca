"""The folder that `prepare` makes: whether it is up to date, who may build it, and how it takes its place."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_polycom.data.manifest import FILE_NAME, Manifest
from lightning_polycom.data.shards import find_damage
from lightning_polycom.errors import InputError


def up_to_date(output: Path, fingerprint: str) -> Manifest | None:
    """The manifest of `output` if the recipe of that fingerprint made it and it is whole.

    Raises:
        InputError: something there that `prepare` did not make.
    """
    if not output.exists():
        return None
    if not output.is_dir() or (not (output / FILE_NAME).exists() and any(output.iterdir())):
        raise InputError(f"output: {output} exists and was not made by `polycom prepare`; name another folder")
    if not (output / FILE_NAME).exists():
        return None
    manifest = Manifest.load(output)
    if manifest.recipe_fingerprint != fingerprint:
        print(f"{output} was made with other settings or from other files; preparing it again")
        return None
    damage = find_damage(output, manifest, manifest.shards)
    if damage is None and not (output / "tasks").is_dir():
        damage = f"{output / 'tasks'}: missing"
    if damage is not None:
        print(f"{damage}; preparing {output} again")
        return None
    return manifest


@contextmanager
def sole_process(output: Path) -> Iterator[None]:
    """Holds the lock file beside `output`; the system lets go of the lock however the process ends."""
    import fcntl

    path = output.parent / f".{output.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"another process prepares {output}; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever held it before has removed the file: a lock on what is no longer there keeps nobody out.
            if not _is_at(path, file.fileno()):
                continue
            try:
                yield
            finally:
                path.unlink()
            return


def put_in_place(built: Path, output: Path) -> None:
    """Renames the folder `built` to `output`; what was there goes away afterwards."""
    replaced = output.parent / f".{output.name}.replaced"
    shutil.rmtree(replaced, ignore_errors=True)
    if output.exists():
        output.rename(replaced)
    built.rename(output)
    shutil.rmtree(replaced, ignore_errors=True)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one that now has this path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False

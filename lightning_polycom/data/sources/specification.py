"""What a source names: `python_stdlib`, `huggingface:...`, or `[domain=]path` with the files that lie there."""

import glob
import os
import re
from pathlib import Path
from typing import NamedTuple

from lightning_polycom.errors import InputError

PYTHON_STDLIB = "python_stdlib"
HUGGING_FACE = "huggingface:"
SUFFIXES = (
    *(kind + packed for kind in (".txt", ".jsonl") for packed in ("", ".gz", ".zst")),
    *(".parquet" + packed for packed in ("", ".gz", ".zst")),
)


class SourceFile(NamedTuple):
    """A file of a source: its path, and its name below the source's folder, which begins its documents' ids."""

    path: Path
    name: str


def split_source(source: str) -> tuple[str | None, str]:
    """The domain, if one is given, and the rest of a source.

    Raises:
        InputError: nothing there.
    """
    match = re.fullmatch(r"(?:([\w-]+)=)?(.+)", source, flags=re.ASCII)
    if match is None:
        raise InputError(f"sources: found {source!r}; write python_stdlib, [domain=]path or [domain=]huggingface:name")
    return match[1], match[2]


def resolve_files(path: Path) -> list[SourceFile]:
    """The files of a file, folder or glob, sorted.

    Raises:
        InputError: the path does not exist, or nothing there has a supported name.
    """
    if path.is_dir():
        root, paths = path, _files_below(path)
    elif path.is_file():
        root, paths = path.parent, [path]
    elif glob.has_magic(str(path)):
        root, paths = _glob_root(path), [Path(p) for p in glob.glob(str(path), recursive=True)]  # noqa: PTH207
    else:
        raise InputError(f"sources: {path} not found; name a file, a folder, a glob or python_stdlib")
    files = [p for p in paths if p.name.lower().endswith(SUFFIXES) and p.is_file()]
    if not files:
        raise InputError(f"sources: {path} has no file whose name ends in one of {', '.join(SUFFIXES)}; add one")
    return [SourceFile(p, p.relative_to(root).as_posix()) for p in sorted(files)]


def default_domain(path: Path) -> str:
    """The stem of the file or the name of the folder, with what does not suit a file name replaced by hyphens."""
    if path.is_file():
        return tidy_domain(path.name.split(".")[0])
    return tidy_domain((path if path.is_dir() else _glob_root(path)).resolve().name)


def tidy_domain(name: str) -> str:
    """A name as a domain: what does not suit a file name is replaced by hyphens."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "text"


def check_output_apart(sources: list[str], output: Path) -> None:
    """Refuses an output folder inside a source folder: the next run would read what this one wrote.

    Raises:
        InputError: `output` lies in a folder of `sources`, or where a glob of them may look.
    """
    for source in sources:
        path = Path(split_source(source)[1].removeprefix(HUGGING_FACE))
        if source == PYTHON_STDLIB:
            continue
        folder = path if path.is_dir() or not glob.has_magic(str(path)) else _glob_root(path)
        folder, place = folder.resolve(), output.resolve()
        if not folder.is_dir() or folder not in (place, *place.parents):
            continue
        if path.is_dir() or _may_reach(path, len(place.relative_to(folder).parts)):
            raise InputError(f"output: {output} lies where the source {path} is looked for; name a folder outside")


def _may_reach(pattern: Path, depth: int) -> bool:
    """Whether a glob may match files inside a folder that lies `depth` levels below the glob's root."""
    wild = pattern.parts[len(_glob_root(pattern).parts) :]
    return "**" in wild or len(wild) > depth


def _files_below(folder: Path) -> list[Path]:
    """Every file that is not hidden, those behind links to folders included.

    Raises:
        InputError: a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise InputError(
            f"sources: {error.filename} cannot be read ({error.strerror}); make it readable or leave it out"
        )

    found, seen = [], set()
    for path, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(path)
        # A link to a folder above it would lead round in a circle.
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        if real not in seen:
            found += [Path(path, name) for name in names if not name.startswith(".")]
        seen.add(real)
    return found


def _glob_root(path: Path) -> Path:
    """The longest leading part of a glob without a wildcard."""
    parts = path.parts
    fixed = next(n for n, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:fixed])

"""What a source names: `python_stdlib`, `huggingface:...`, or `[domain=]path` with the files that lie there."""

import glob
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
        root, paths = path, [p for p in path.rglob("*") if not _is_hidden(p.relative_to(path))]
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
        InputError: `output` lies in a folder of `sources`.
    """
    for source in sources:
        path = split_source(source)[1]
        if source != PYTHON_STDLIB and not path.startswith(HUGGING_FACE):
            folder = Path(path).resolve()
            if folder.is_dir() and folder in (output.resolve(), *output.resolve().parents):
                raise InputError(f"output: {output} lies in the source folder {folder}; name a folder outside it")


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _glob_root(path: Path) -> Path:
    """The longest leading part of a glob without a wildcard."""
    parts = path.parts
    fixed = next(n for n, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:fixed])

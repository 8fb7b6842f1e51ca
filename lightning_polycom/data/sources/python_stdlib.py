"""The embedded corpus: the standard library of the Python that runs this, so that a first run needs no download.

Domains: `library` (its sources), `tests` (its own tests, where the distribution ships them) and `reference` (the
language reference's topics, as `help()` shows them).
"""

import ast
import hashlib
import os
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from lightning_polycom.errors import InputError

_TOPICS = "pydoc_data/topics.py"
_MAX_FILE_BYTES = 400_000  # larger ones are generated tables
_MAX_TESTS_PER_LIBRARY_BYTE = 1.5
_TEST_FOLDERS = {"test", "tests", "idle_test"}
_SKIPPED_FOLDERS = {"__pycache__", "site-packages", "dist-packages"}


DOMAINS = ("library", "tests", "reference")


def iterate_python_stdlib(domain: str, root: Path | None = None) -> Iterator[tuple[str, str]]:
    """Yields (id, text) of every document of a domain, in a fixed order.

    Ids are paths below the library's root with forward slashes, or `topics/<name>`. Tests are thinned out by the hash
    of their id to at most one and a half times the bytes of the library.

    Args:
        domain: One of DOMAINS.
        root: The folder of the library; default the running Python's.

    Raises:
        InputError: no Python sources there.
    """
    root = Path(sysconfig.get_path("stdlib")) if root is None else root
    if domain == "reference":
        yield from _reference(root)
        return
    for name in _list_sources(root)[domain]:
        yield name, (root / name).read_bytes().decode("utf-8")


@lru_cache(maxsize=1)
def _list_sources(root: Path) -> dict[str, list[str]]:
    """Ids of the files of each domain, sorted; every file is read to see that it is text, hence the cache."""
    domains = _usable_files(root)
    if not domains["library"]:
        raise InputError(f"python_stdlib: no Python sources in {root}; give `sources` text files instead")
    limit = _MAX_TESTS_PER_LIBRARY_BYTE * sum(domains["library"].values())
    domains["tests"] = _thin_out(domains["tests"], limit)
    return {domain: sorted(files) for domain, files in domains.items()}


def _usable_files(root: Path) -> dict[str, dict[str, int]]:
    """Byte sizes of the usable files by id, by domain."""
    domains: dict[str, dict[str, int]] = {"library": {}, "tests": {}}
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [n for n in subfolders if n not in _SKIPPED_FOLDERS and not n.startswith("config-")]
        for name in names:
            path = Path(folder, name)
            relative = path.relative_to(root)
            if path.suffix == ".py" and relative.as_posix() != _TOPICS and _is_text(path):
                domain = "tests" if _TEST_FOLDERS.intersection(relative.parts[:-1]) else "library"
                domains[domain][relative.as_posix()] = path.stat().st_size
    return domains


def _is_text(path: Path) -> bool:
    """Whether a file has text in UTF-8 and is no generated table; some tests are broken on purpose."""
    if path.stat().st_size > _MAX_FILE_BYTES:
        return False
    try:
        return bool(path.read_bytes().decode("utf-8").strip())
    except UnicodeDecodeError:
        return False


def _thin_out(files: dict[str, int], limit: float) -> dict[str, int]:
    kept, total = {}, 0
    for name in sorted(files, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if total + files[name] <= limit:
            kept[name] = files[name]
            total += files[name]
    return kept


def _reference(root: Path) -> Iterator[tuple[str, str, str]]:
    path = root / _TOPICS
    if not path.is_file():
        return
    # Read as a literal, not imported: the same code serves any root and executes nothing.
    for statement in ast.parse(path.read_bytes()).body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", None) == "topics":
            topics = ast.literal_eval(statement.value)
            yield from ((f"topics/{name}", topics[name]) for name in sorted(topics))

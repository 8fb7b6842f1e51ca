"""Text in: documents streamed from .txt, .jsonl and .parquet files or from the embedded corpus."""

import glob
import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from lightning_polycom.data.python_stdlib import iterate_python_stdlib
from lightning_polycom.errors import InputError

PYTHON_STDLIB = "python_stdlib"
SUFFIXES = (".txt", ".txt.gz", ".txt.zst", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")


class Document(NamedTuple):
    """One text with its domain and an id that is unique in its source."""

    domain: str
    id: str
    text: str


class SourceFile(NamedTuple):
    """A file of a source: its domain, its path, and its name below the source's folder, which begins its ids."""

    domain: str
    path: Path
    name: str


def iterate_documents(sources: list[str], text_column: str, id_column: str | None) -> Iterator[Document]:
    """Streams the documents of all sources: sources as listed, files sorted by path, rows as they come.

    A source is `python_stdlib` or `[domain=]path`, path being a file, a folder or a glob. A .txt file is one
    document, a .jsonl or .parquet file one a row. Without `domain=`, the stem of the path names the domain. Sources
    of the same domain are joined. Documents with nothing but white space are left out.

    Args:
        sources: At least one source.
        text_column: Column of .jsonl and .parquet rows that holds the text.
        id_column: Column that holds the id; default the file's name and the row's number.

    Raises:
        InputError: nothing found, a damaged file, a missing column, a text that is no valid text, an empty source.
    """
    if not sources:
        raise InputError("sources: the list is empty; name files, folders, globs or python_stdlib")
    for source in sources:
        empty = True
        for document in _iterate_source(source, text_column, id_column):
            if document.text.strip():
                empty = False
                yield document
        if empty:
            raise InputError(f"sources: {source} has no text; leave it out or give another file")


def source_fingerprint(sources: list[str]) -> str:
    """SHA-256, in hex, over the files' names, sizes and modification times, or the embedded corpus's contents."""
    digest = hashlib.sha256()
    for source in sources:
        if source == PYTHON_STDLIB:
            entries = iterate_python_stdlib()
        else:
            entries = ((f.domain, f.name, *_size_and_time(f.path)) for f in resolve_source(source))
        for entry in entries:
            digest.update(json.dumps(entry).encode())
    return digest.hexdigest()


def resolve_source(source: str) -> list[SourceFile]:
    """The files of a `[domain=]path` source, sorted.

    Raises:
        InputError: the path does not exist, or nothing there has a supported name.
    """
    given_domain, path = _split_source(source)
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
    domain = given_domain or _default_domain(path, root)
    return [SourceFile(domain, p, p.relative_to(root).as_posix()) for p in sorted(files)]


def check_output_apart(sources: list[str], output: Path) -> None:
    """Refuses an output folder inside a source folder: the next run would read what this one wrote.

    Raises:
        InputError: `output` lies in a folder of `sources`.
    """
    for source in sources:
        if source != PYTHON_STDLIB:
            folder = _split_source(source)[1].resolve()
            if folder.is_dir() and folder in (output.resolve(), *output.resolve().parents):
                raise InputError(f"output: {output} lies in the source folder {folder}; name a folder outside it")


def _split_source(source: str) -> tuple[str | None, Path]:
    """The domain, if one is given, and the path of a source."""
    match = re.fullmatch(r"(?:([\w-]+)=)?(.+)", source, flags=re.ASCII)
    if match is None:
        raise InputError(f"sources: found {source!r}; write python_stdlib or [domain=]path")
    return match[1], Path(match[2])


def _iterate_source(source: str, text_column: str, id_column: str | None) -> Iterator[Document]:
    if source == PYTHON_STDLIB:
        yield from (Document(*entry) for entry in iterate_python_stdlib())
        return
    for file in resolve_source(source):
        if _kind(file.path) == ".txt":
            yield Document(file.domain, file.name, _decode(_read_all(file.path), file.path, 0).removeprefix("\ufeff"))
            continue
        rows = _parquet_rows if _kind(file.path) == ".parquet" else _jsonl_rows
        columns = [text_column] if id_column is None else [text_column, id_column]
        for where, row in rows(file.path, columns):
            number = where.rpartition(" ")[2]
            name = f"{file.name}:{number}" if id_column is None else str(row[id_column])
            yield Document(file.domain, name, _check_text(row[text_column], text_column, file.path, where))


def _jsonl_rows(path: Path, columns: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields ("line n", row) for every line that is not blank, with the columns checked."""
    offset = 0
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            text = _decode(line, path, offset)
            offset += len(line)
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}: line {number} is no valid JSON ({error}); correct it") from error
            if not isinstance(row, dict):
                raise InputError(f"{path}: line {number} is no JSON object; write one object a line")
            _check_columns(path, f"line {number}", columns, list(row))
            yield f"line {number}", row


def _parquet_rows(path: Path, columns: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields ("row n", row), counting from 1, with only the columns asked for."""
    import pyarrow as pa
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _check_columns(path, "the file", columns, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=256, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a readable Parquet file ({reason}); write it again") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: invalid UTF-8 after row {number}; write it again") from error


def _check_columns(path: Path, where: str, columns: list[str], found: list[str]) -> None:
    for column in columns:
        if column not in found:
            raise InputError(
                f"{path}: {where} has no column {column!r}, only {', '.join(map(str, found)) or 'none'}; "
                "set text_column or id_column to one of them"
            )


def _check_text(text: Any, column: str, path: Path, where: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"{path}: {where}: {column!r} is {type(text).__name__}, not a text; name another text_column")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: {where}: {column!r} has half of a surrogate pair; correct it") from error
    return text


def _decode(data: bytes, path: Path, offset: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: invalid UTF-8 at byte {offset + error.start}; convert the file to UTF-8") from error


def _read_all(path: Path) -> bytes:
    with _open(path) as file:
        return file.read()


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """The uncompressed bytes of a file; damage found while it is read becomes an InputError."""
    suffix = path.suffix.lower()
    try:
        with path.open("rb") as raw:
            if suffix == ".gz":
                with gzip.open(raw) as file:
                    yield file
            elif suffix == ".zst":
                # zstandard's own reader takes a truncated file for a complete one; Arrow's notices.
                import pyarrow

                yield io.BufferedReader(pyarrow.input_stream(raw, compression="zstd"))
            else:
                yield raw
    except (EOFError, OSError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read ({reason}); check it or make it again") from error


def _size_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _kind(path: Path) -> str:
    """`.txt`, `.jsonl` or `.parquet`."""
    return Path(re.sub(r"\.(gz|zst)$", "", path.name.lower())).suffix


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _glob_root(path: Path) -> Path:
    """The longest leading part of a glob without a wildcard."""
    parts = path.parts
    fixed = next(n for n, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:fixed])


def _default_domain(path: Path, root: Path) -> str:
    """The stem of the file or the name of the folder, with what does not suit a file name replaced by hyphens."""
    name = path.name.split(".")[0] if path.is_file() else root.resolve().name
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "text"

"""Documents of one file: a .txt file is one, .jsonl and .parquet files have one a row."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from lightning_polycom.data.sources.packed_files import is_packed, open_seekable, open_unpacked
from lightning_polycom.data.sources.specification import SourceFile
from lightning_polycom.errors import InputError


class Columns(NamedTuple):
    """The columns that hold a row's text and its id; without an id column rows are numbered."""

    text: str = "text"
    id: str | None = None


class Row(NamedTuple):
    """One document of a file: rows and uncompressed bytes before it, its id and its text."""

    before: int
    offset: int
    id: str
    text: str


def read_rows(file: SourceFile, columns: Columns, skip: int = 0, offset: int = 0) -> Iterator[Row]:
    """Streams the documents of a file after its first `skip` rows, which take its first `offset` bytes.

    Without an id column a row's id is `name:number`, counting from 1; a .txt file's id is its name. Blank lines of
    .jsonl are no rows with documents, but they are counted.

    Raises:
        InputError: a damaged file, invalid UTF-8 or JSON, a missing column, a text that is no valid text.
    """
    kind = Path(re.sub(r"\.(gz|zst)$", "", file.path.name.lower())).suffix
    if kind == ".txt":
        return _text_file(file, skip)
    return (_parquet_rows if kind == ".parquet" else _jsonl_rows)(file, columns, skip, offset)


def _text_file(file: SourceFile, skip: int) -> Iterator[Row]:
    if skip:
        return
    with open_unpacked(file.path) as stream:
        text = _decode(stream.read(), file.path, 0).removeprefix("\ufeff")
    nul = text.find("\0")
    if nul >= 0:
        raise InputError(
            f"{file.path}: NUL at character {nul}, so it is binary or UTF-16; convert it to UTF-8, or leave it out"
        )
    yield Row(0, 0, file.name, text)


def _jsonl_rows(file: SourceFile, columns: Columns, skip: int, offset: int) -> Iterator[Row]:
    path = file.path
    with open_unpacked(path) as stream:
        offset = _skip_lines(stream, path, skip, offset)
        for number, line in enumerate(stream, start=skip + 1):
            text = _decode(line, path, offset)
            offset += len(line)
            if text.strip():
                row = _parse(text, path, number)
                where = f"line {number}"
                check_columns(path, where, columns, list(row))
                yield Row(number - 1, offset - len(line), *_id_and_text(row, columns, file, where, number))


def _skip_lines(stream: BinaryIO, path: Path, skip: int, offset: int) -> int:
    """Goes behind the first `skip` lines, at once where the file allows it; returns the bytes before that place."""
    if not is_packed(path):
        stream.seek(offset)
        return offset
    return sum(len(line) for line in islice(stream, skip))


def _parse(text: str, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: line {number} is no valid JSON ({error}); correct it") from error
    if not isinstance(row, dict):
        raise InputError(f"{path}: line {number} is no JSON object; write one object a line")
    return row


def _parquet_rows(file: SourceFile, columns: Columns, skip: int, offset: int) -> Iterator[Row]:
    """Only the columns asked for are read, and no row group that is skipped whole; `offset` is of no use here."""
    import pyarrow as pa
    import pyarrow.parquet

    path, number = file.path, 0
    wanted = [columns.text] if columns.id is None else [columns.text, columns.id]
    try:
        with open_seekable(path) as stream, pyarrow.parquet.ParquetFile(stream) as parquet:
            check_columns(path, "the file", columns, parquet.schema_arrow.names)
            groups = list(range(parquet.num_row_groups))
            while groups and number + parquet.metadata.row_group(groups[0]).num_rows <= skip:
                number += parquet.metadata.row_group(groups.pop(0)).num_rows
            for batch in parquet.iter_batches(batch_size=256, columns=wanted, row_groups=groups):
                for row in batch.to_pylist():
                    number += 1
                    if number > skip:
                        yield Row(number - 1, 0, *_id_and_text(row, columns, file, f"row {number}", number))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a readable Parquet file ({reason}); write it again") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: invalid UTF-8 after row {number}; write it again") from error


def check_columns(path: str | Path, where: str, columns: Columns, found: list[str]) -> None:
    """Refuses what lacks a column that is asked for.

    Raises:
        InputError: which column, where, and which there are.
    """
    for column in columns:
        if column is not None and column not in found:
            raise InputError(
                f"{path}: {where} has no column {column!r}, only {', '.join(map(str, found)) or 'none'}; "
                "set text_column or id_column to one of them"
            )


def check_text(text: Any, column: str, path: str | Path, where: str) -> str:
    """The text of a row, if it is one.

    Raises:
        InputError: another type, or half of a surrogate pair, which no UTF-8 can hold.
    """
    if not isinstance(text, str):
        raise InputError(f"{path}: {where}: {column!r} is {type(text).__name__}, not a text; name another text_column")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: {where}: {column!r} has half of a surrogate pair; correct it") from error
    return text


def check_id(row: dict[str, Any], columns: Columns, path: str | Path, where: str) -> str:
    """The id of a row, as text.

    Raises:
        InputError: it has none: rows without an id would all be held out or trained on together.
    """
    if row[columns.id] is None:
        raise InputError(f"{path}: {where}: {columns.id!r} is empty; give every row an id, or leave id_column out")
    return str(row[columns.id])


def _id_and_text(row: dict[str, Any], columns: Columns, file: SourceFile, where: str, number: int) -> tuple[str, str]:
    name = f"{file.name}:{number}" if columns.id is None else check_id(row, columns, file.path, where)
    return name, check_text(row[columns.text], columns.text, file.path, where)


def _decode(data: bytes, path: Path, offset: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: invalid UTF-8 at byte {offset + error.start}; convert the file to UTF-8") from error

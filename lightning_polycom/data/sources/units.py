"""Sources cut into units: documents of one domain that one process reads from beginning to end.

Units, and so the order of all documents, follow from the sources alone: sources as listed, files sorted by path, rows
as they come. How many processes read them does not matter.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lightning_polycom.atomic import atomic_path
from lightning_polycom.data.sources.document import START, Document, Position
from lightning_polycom.data.sources.huggingface import DatasetName, open_dataset, read_dataset
from lightning_polycom.data.sources.python_stdlib import DOMAINS, iterate_python_stdlib
from lightning_polycom.data.sources.rows import Columns, read_rows
from lightning_polycom.data.sources.specification import (
    HUGGING_FACE,
    PYTHON_STDLIB,
    SourceFile,
    default_domain,
    resolve_files,
    split_source,
    tidy_domain,
)
from lightning_polycom.errors import InputError

_GROUP_BYTES = 8 << 20  # small files are read together, up to this size
_GROUP_FILES = 4096
_SPOOL_ROWS = 1000  # in a row group, in which reading can begin


@dataclass(frozen=True)
class Unit(ABC):
    """Documents of one domain. `key` changes with everything that decides what is read."""

    domain: str
    key: str

    @property
    def num_bytes(self) -> int:
        """About how much there is to read, where that takes long enough to be shared among processes."""
        return 0

    @abstractmethod
    def read(self, columns: Columns, start: Position = START) -> Iterator[tuple[Position, Document]]:
        """Streams the documents from `start` on, which must be a position that was read before."""


@dataclass(frozen=True)
class FileUnit(Unit):
    """One file, or consecutive small ones."""

    files: tuple[SourceFile, ...]

    @property
    def num_bytes(self) -> int:
        """As in `Unit`."""
        return sum(file.path.stat().st_size for file in self.files)

    def read(self, columns: Columns, start: Position = START) -> Iterator[tuple[Position, Document]]:
        """As in `Unit`."""
        skip, offset = start.row, start.offset
        for number, file in enumerate(self.files[start.file :], start.file):
            for row in read_rows(file, columns, skip, offset):
                yield Position(number, row.before, row.offset), Document(self.domain, row.id, row.text)
            skip = offset = 0


@dataclass(frozen=True)
class StdlibUnit(Unit):
    """One domain of the embedded corpus."""

    def read(self, columns: Columns, start: Position = START) -> Iterator[tuple[Position, Document]]:
        """As in `Unit`."""
        for number, (name, text) in enumerate(iterate_python_stdlib(self.domain)):
            if number >= start.row:
                yield Position(0, number), Document(self.domain, name, text)


@dataclass(frozen=True)
class DatasetUnit(Unit):
    """A part of a Hugging Face data set; the first reading keeps it, packed, in `spool`, and later ones use that.

    So a data set is fetched over the network once, however often its text is gone through.
    """

    dataset: DatasetName
    num_shards: int
    index: int
    spool: Path

    @property
    def num_bytes(self) -> int:
        """As in `Unit`: unknown, but fetching side by side is always worth it."""
        return 1 << 30

    def read(self, columns: Columns, start: Position = START) -> Iterator[tuple[Position, Document]]:
        """As in `Unit`."""
        path = self.spool / f"{self.key}.parquet"
        if not path.exists():
            self._fetch(path, columns)
        for row in read_rows(SourceFile(path, path.name), Columns("text", "id"), start.row):
            yield Position(0, row.before), Document(self.domain, row.id, row.text)

    def _fetch(self, path: Path, columns: Columns) -> None:
        import pyarrow as pa
        import pyarrow.parquet

        schema = pa.schema([("id", pa.string()), ("text", pa.large_string())])
        with (
            atomic_path(path) as temporary,
            pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer,
        ):
            rows: list[tuple[str, str]] = []
            for row in read_dataset(self.dataset, self.num_shards, self.index, columns):
                rows.append(row)
                if len(rows) == _SPOOL_ROWS:
                    writer.write_table(_table(rows, schema))
                    rows = []
            writer.write_table(_table(rows, schema))


def read_documents(unit: Unit, columns: Columns, start: Position = START) -> Iterator[tuple[Position, Document]]:
    """Streams the documents of a unit that have anything but white space, from `start` on."""
    for position, document in unit.read(columns, start):
        if document.text and not document.text.isspace():
            yield position, document


def source_fingerprint(sources: list[str], columns: Columns) -> str:
    """SHA-256, in hex, over the names, sizes and modification times of all files and over the embedded corpus.

    A data set of the hub counts by its name alone: asking the hub would need the network at every start.

    Raises:
        InputError: no sources, or one that cannot be found.
    """
    if not sources:
        raise InputError("sources: the list is empty; name files, folders, globs, huggingface:... or python_stdlib")
    keys = [_source_key(source, columns) for source in sources]
    return hashlib.sha256(json.dumps(keys).encode()).hexdigest()


def plan_units(source: str, columns: Columns, spool: Path) -> list[Unit]:
    """The units of a source, in order; files are looked at, but not read.

    `spool` is the folder where data sets are kept while they are prepared.

    Raises:
        InputError: it cannot be found.
    """
    if source == PYTHON_STDLIB:
        return [StdlibUnit(domain, _stdlib_key(domain)) for domain in DOMAINS]
    domain, path = split_source(source)
    if path.startswith(HUGGING_FACE):
        return _dataset_units(domain, DatasetName.parse(path.removeprefix(HUGGING_FACE)), columns, spool)
    return _file_units(domain, Path(path), columns)


def _source_key(source: str, columns: Columns) -> list:
    domain, path = split_source(source)
    if path.startswith(HUGGING_FACE):
        name = DatasetName.parse(path.removeprefix(HUGGING_FACE))
        return [domain, *name, columns, [] if name.folder is None else _folder_contents(name.folder)]
    return [unit.key for unit in plan_units(source, columns, Path())]


def _file_units(domain: str | None, path: Path, columns: Columns) -> list[Unit]:
    groups = list(_grouped(resolve_files(path)))
    domain = domain or default_domain(path)
    return [
        FileUnit(domain, _key(domain, columns, [[f.name, *sizes] for f, sizes in group]), tuple(f for f, _ in group))
        for group in groups
    ]


def _grouped(files: list[SourceFile]) -> Iterator[list[tuple[SourceFile, tuple[int, int]]]]:
    group, total = [], 0
    for file in files:
        status = file.path.stat()
        if group and (total + status.st_size > _GROUP_BYTES or len(group) == _GROUP_FILES):
            yield group
            group, total = [], 0
        group.append((file, (status.st_size, status.st_mtime_ns)))
        total += status.st_size
    yield group


def _dataset_units(domain: str | None, name: DatasetName, columns: Columns, spool: Path) -> list[Unit]:
    num_shards = open_dataset(name).num_shards
    domain = domain or tidy_domain(Path(name.name).name)
    contents = "" if name.folder is None else _key(domain, columns, _folder_contents(name.folder))
    return [
        DatasetUnit(domain, _key(domain, columns, [*name, num_shards, n, contents]), name, num_shards, n, spool)
        for n in range(num_shards)
    ]


def _folder_contents(folder: Path) -> list[list]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [[p.relative_to(folder).as_posix(), p.stat().st_size, p.stat().st_mtime_ns] for p in paths]


def _stdlib_key(domain: str) -> str:
    digest = hashlib.sha256(domain.encode())
    for entry in iterate_python_stdlib(domain):
        digest.update(json.dumps(entry).encode())
    return digest.hexdigest()


def _key(domain: str, columns: Columns, contents: list) -> str:
    return hashlib.sha256(json.dumps([domain, columns, contents]).encode()).hexdigest()


def _table(rows: list[tuple[str, str]], schema):
    import pyarrow as pa

    return pa.table([[row[0] for row in rows], [row[1] for row in rows]], schema=schema)

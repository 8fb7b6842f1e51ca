"""A Hugging Face data set, saved with `save_to_disk`, whose column `input_ids` is already tokenised.

The ids of each Arrow record batch lie one behind the other in the file, so the file is mapped as any other is; the
library `datasets` need not be imported. Opening reads the head of each record batch and no ids.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_polycom.data.formats.foreign import TokenFile
from lightning_polycom.data.token_sequence import Segment
from lightning_polycom.errors import InputError
from lightning_polycom.json_object import read_json_object

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "Hugging Face datasets (Arrow)"
COLUMN = "input_ids"
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_VALIDATION_NAMES = ("validation", "valid", "val")


@dataclass(frozen=True)
class Rows:
    """The rows of one Arrow file as documents, whether its writer meant them so or cut the text into blocks."""

    path: Path
    num_rows: int

    def count(self) -> int:
        """Rows."""
        return self.num_rows

    def bounds(self) -> np.ndarray:
        """The sums of the rows' lengths."""
        lengths = [np.diff(_row_offsets(column)) for _, column in _columns(self.path)]
        return np.concatenate([[0], np.cumsum(np.concatenate(lengths))])


def recognize(folder: Path) -> bool:
    """Whether the folder holds a saved data set, or several splits of one."""
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def read(folder: Path, split: str) -> list[TokenFile]:
    """The Arrow files of the data set, or of its split, in order.

    Raises:
        InputError: no such split, no column of integer lists, missing values, compression, a damaged file.
    """
    if (folder / "dataset_dict.json").is_file():
        folder = folder / _split_name(folder, split)
    state = _read_json(folder / "state.json")
    if state.get("_indices_data_files"):
        raise InputError(f"{folder}: rows chosen by an index of another file; call flatten_indices() and save it again")
    names = [Path(entry["filename"]).name for entry in state.get("_data_files", [])]
    if not names:
        raise InputError(f"{folder / 'state.json'}: names no data files; save the data set again")
    for name in names:
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: missing, {folder / 'state.json'} names it; save the data set again")
    files = [file for file in (_read_file(folder / name) for name in names) if file.segments]
    if not files:
        raise InputError(f"{folder}: its column {COLUMN!r} holds no ids; tokenise it again")
    return files


def _read_file(path: Path) -> TokenFile:
    segments, num_rows, dtype = [], 0, np.dtype("<i8")
    for base, column in _columns(path):
        offsets = _row_offsets(column)
        values = column.values
        dtype = np.dtype(values.type.to_pandas_dtype()).newbyteorder("<")
        first, end = values.offset + int(offsets[0]), values.offset + int(offsets[-1])
        num_rows += len(column)
        if end > first:
            begin = values.buffers()[1].address - base
            if not 0 <= begin < path.stat().st_size:
                raise InputError(f"{path}: compressed batches cannot be mapped; save it without compression")
            segments.append(Segment(path, begin + first * dtype.itemsize, end - first))
    return TokenFile(path, FORMAT, dtype, segments, Rows(path, num_rows))


def _columns(path: Path) -> Iterator[tuple[int, "pa.Array"]]:
    """The address at which the file is mapped, and `input_ids` of each record batch."""
    import pyarrow as pa

    _check_end(path)
    try:
        with pa.memory_map(str(path)) as file:
            content = file.read_buffer()
            schema = pa.ipc.open_stream(content).schema
            _check_column(path, schema)
            options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(COLUMN)])
            for batch in pa.ipc.open_stream(content, options=options):
                column = batch.column(0)
                column.validate()
                if column.null_count or column.values.null_count:
                    raise InputError(f"{path}: {COLUMN!r} has missing values; drop those rows and save it again")
                if len(column):
                    yield content.address, column
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: {path.stat().st_size} bytes that are no complete Arrow stream ({reason}); save it again"
        ) from error


def _check_end(path: Path) -> None:
    """Arrow takes a stream that was cut between two batches for a complete one, but its writers mark the end."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(_END)))
        if file.read() != _END:
            raise InputError(f"{path}: {path.stat().st_size} bytes without an Arrow stream's end; copy it again")


def _check_column(path: Path, schema: "pa.Schema") -> None:
    import pyarrow as pa

    if COLUMN not in schema.names:
        raise InputError(f"{path}: no column {COLUMN!r}, only {', '.join(schema.names)}; tokenise the data set first")
    kind = schema.field(COLUMN).type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not (is_list and pa.types.is_integer(kind.value_type)):
        raise InputError(f"{path}: {COLUMN!r} is {kind}, expected lists of integers; tokenise the data set again")


def _row_offsets(column: "pa.Array") -> np.ndarray:
    """Where each row begins among the values, and the end: (rows + 1,)."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(column.type):
        return (column.offset + np.arange(len(column) + 1)) * column.type.list_size
    return column.offsets.to_numpy()


def _split_name(folder: Path, split: str) -> str:
    splits = _read_json(folder / "dataset_dict.json").get("splits", [])
    for name in _VALIDATION_NAMES if split == "validation" else (split,):
        if name in splits:
            return name
    raise InputError(f"{folder}: no split {split!r}; it has {', '.join(map(str, splits)) or 'none'}")


def _read_json(path: Path) -> dict[str, Any]:
    return read_json_object(path, "", "save the data set again with save_to_disk")

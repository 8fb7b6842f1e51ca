"""What `dolma tokens` writes for OLMo: raw ids in a file named .npy, without a NumPy header, and a .csv.gz beside it.

A row of the .csv.gz is a document: first token, token behind its last, id, source file, line. It is compressed as one
stream, so that its last row cannot be had without reading all of it.
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightning_polycom.data.formats.foreign import TokenFile
from lightning_polycom.errors import InputError

_DTYPES = {2: np.dtype("<u2"), 4: np.dtype("<u4")}


@dataclass(frozen=True)
class DolmaDocuments:
    """The rows of the sidecar of `path`, streamed each time that they are asked for."""

    path: Path
    num_tokens: int

    def count(self) -> int:
        """Rows of the sidecar, once its end is found to be that of the ids.

        Raises:
            InputError: a damaged sidecar, or one that does not fit the ids.
        """
        count, end = _scan(sidecar_of(self.path))
        if end != self.num_tokens:
            raise _misfit(self.path, end)
        return count

    def bounds(self) -> np.ndarray:
        """The first column, and the end of the last row.

        Raises:
            InputError: as in `count`, or rows with a gap between them.
        """
        sidecar = sidecar_of(self.path)
        starts, ends = [], [0]
        for number, line in enumerate(_lines(sidecar), start=1):
            start, end = _parse(sidecar, number, line)
            if start != ends[-1]:
                raise InputError(f"{sidecar}: row {number} starts at token {start}, expected {ends[-1]}; copy it again")
            starts.append(start)
            ends.append(end)
        if ends[-1] != self.num_tokens:
            raise _misfit(self.path, ends[-1])
        return np.array([*starts, ends[-1]], np.int64)


def sidecar_of(path: Path) -> Path:
    """Where the bounds of a file's documents are, if it has any."""
    return path.with_suffix(".csv.gz")


def read(path: Path, dtype: np.dtype | None, check: bool) -> TokenFile:
    """The file as raw ids of `dtype`, or of the one that follows from its sidecar.

    Args:
        path: A file that has a sidecar.
        dtype: Of the ids, if known.
        check: Read the sidecar even if the dtype is known, and compare.

    Raises:
        InputError: a damaged sidecar, or one that fits neither uint16 nor uint32, or not the dtype given.
    """
    if dtype is None or check:
        end, found = _scan(sidecar_of(path))[1], path.stat().st_size
        fitting = next((known for size, known in _DTYPES.items() if end > 0 and size * end == found), None)
        if fitting is None or (dtype is not None and dtype != fitting):
            raise _misfit(path, end)
        dtype = fitting
    documents = DolmaDocuments(path, path.stat().st_size // dtype.itemsize)
    return TokenFile.whole(path, "dolma (OLMo)", dtype, documents=documents)


def _misfit(path: Path, end: int) -> InputError:
    return InputError(
        f"{path}: {path.stat().st_size} bytes found, expected {2 * end} (uint16) or {4 * end} (uint32) as "
        f"{sidecar_of(path).name} ends at token {end}; copy both again, and give that dtype if any"
    )


def _scan(sidecar: Path) -> tuple[int, int]:
    """The number of rows and the end of the last one; memory does not grow with the file."""
    count, last = 0, ""
    for line in _lines(sidecar):
        count, last = count + 1, line
    return count, _parse(sidecar, count, last)[1] if count else 0


def _lines(sidecar: Path) -> Iterator[str]:
    try:
        with gzip.open(sidecar, "rt", encoding="utf-8", newline="\n") as file:
            yield from file
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{sidecar}: {sidecar.stat().st_size} bytes that are no complete .csv.gz ({reason}); copy it again"
        ) from error


def _parse(sidecar: Path, number: int, line: str) -> tuple[int, int]:
    try:
        start, end = (int(field) for field in line.split(",", 2)[:2])
    except ValueError as error:
        raise InputError(f"{sidecar}: row {number} is {line[:60]!r}, expected start,end,...; copy it again") from error
    return start, end

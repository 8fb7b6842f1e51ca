"""The uncompressed bytes of a file that may be packed by gzip or Zstandard."""

import gzip
import io
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lightning_polycom.errors import InputError

PACKED = (".gz", ".zst")


def is_packed(path: Path) -> bool:
    """Whether the file's name says that it is compressed, so that no place in it can be gone to at once."""
    return path.suffix.lower() in PACKED


@contextmanager
def open_unpacked(path: Path) -> Iterator[BinaryIO]:
    """The uncompressed bytes of a file, as a stream; damage found while it is read becomes an InputError."""
    suffix = path.suffix.lower()
    try:
        with path.open("rb") as raw:
            if suffix == ".gz":
                with gzip.open(raw) as file:
                    yield io.BufferedReader(file, 1 << 20)
            elif suffix == ".zst":
                # zstandard's own reader takes a truncated file for a complete one; Arrow's notices.
                import pyarrow

                yield io.BufferedReader(pyarrow.input_stream(raw, compression="zstd"), 1 << 20)
            else:
                yield raw
    except (EOFError, OSError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read ({reason}); check it or make it again") from error


@contextmanager
def open_seekable(path: Path) -> Iterator[BinaryIO]:
    """The uncompressed bytes of a file with random access: a packed file is unpacked to a temporary one first."""
    if not is_packed(path):
        with path.open("rb") as raw:
            yield raw
        return
    with tempfile.TemporaryFile() as unpacked:
        with open_unpacked(path) as packed:
            _copy(packed, unpacked, path)
        unpacked.seek(0)
        yield unpacked


def _copy(packed: BinaryIO, unpacked: BinaryIO, path: Path) -> None:
    while block := packed.read(1 << 20):
        try:
            unpacked.write(block)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be unpacked to {tempfile.gettempdir()} ({error.strerror}); free space there, or set "
                "TMPDIR to another folder"
            ) from error

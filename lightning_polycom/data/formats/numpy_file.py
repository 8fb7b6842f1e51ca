"""A genuine NumPy file: its header says what the ids are."""

import tokenize
from pathlib import Path

import numpy as np

from lightning_polycom.data.formats.foreign import TokenFile
from lightning_polycom.errors import InputError

MAGIC = b"\x93NUMPY"
# What NumPy's parser of a damaged header lets through, beside its own ValueError.
_DAMAGE = (ValueError, KeyError, TypeError, SyntaxError, tokenize.TokenError)
_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read(path: Path) -> TokenFile:
    """The array of the file, which must be one-dimensional and of little-endian integers.

    Raises:
        InputError: a damaged header, an array of another kind, or a size that the shape does not explain.
    """
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            shape, _, dtype = _HEADER_READERS[version](file)
        except _DAMAGE as error:
            raise InputError(
                f"{path}: a damaged NumPy header ({' '.join(str(error).split())}); write it again"
            ) from error
        header_bytes = file.tell()
    if len(shape) != 1 or dtype.kind not in "iu" or dtype != dtype.newbyteorder("<"):
        raise InputError(
            f"{path}: a NumPy array of {dtype} with shape {shape}, expected one dimension of little-endian integers; "
            "write it again as uint16 or uint32"
        )
    found, expected = path.stat().st_size, header_bytes + shape[0] * dtype.itemsize
    if found != expected:
        raise InputError(
            f"{path}: {found} bytes found, {expected} expected for the {shape[0]} {dtype.name} ids of its header; "
            "copy it again"
        )
    return TokenFile.whole(path, "NumPy", dtype, header_bytes)

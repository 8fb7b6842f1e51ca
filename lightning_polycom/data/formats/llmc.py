"""Files of llm.c and modded-nanogpt: a header of 256 int32 (magic, version, number of ids, zeros), then the ids."""

from pathlib import Path

import numpy as np

from lightning_polycom.data.formats.foreign import TokenFile
from lightning_polycom.errors import InputError

HEADER_BYTES = 1024
# Magic number: version, dtype of the ids.
KINDS = {20240520: (1, np.dtype("<u2")), 20240801: (7, np.dtype("<u4"))}


def recognize(head: bytes) -> bool:
    """Whether the first `HEADER_BYTES` of a file are such a header, of a known kind or of one like it."""
    values = np.frombuffer(head[: len(head) // 4 * 4], "<i4")
    if len(values) == 0:
        return False
    # These magic numbers are dates, and behind them nearly all is zero: so a new kind is not taken for raw ids.
    dated = 20_000_000 < values[0] < 21_000_000
    return int(values[0]) in KINDS or (len(head) == HEADER_BYTES and dated and not values[3:].any())


def read(path: Path) -> TokenFile:
    """The file behind its header.

    Raises:
        InputError: an unknown magic number or version, or a size that the header's count does not explain.
    """
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES:
        raise InputError(f"{path}: {len(head)} bytes found, {HEADER_BYTES} expected of the header; copy it again")
    magic, version, num_tokens = (int(value) for value in np.frombuffer(head, "<i4", 3))
    if magic not in KINDS:
        known = ", ".join(map(str, KINDS))
        raise InputError(f"{path}: the header has magic number {magic}, known are {known}; write it again as one")
    known_version, dtype = KINDS[magic]
    if version != known_version:
        raise InputError(
            f"{path}: version {version} of magic number {magic}, known is {known_version}; write it again as that"
        )
    found, expected = path.stat().st_size, HEADER_BYTES + num_tokens * dtype.itemsize
    if found != expected or num_tokens < 1:
        raise InputError(
            f"{path}: {found} bytes found, {expected} expected for the {num_tokens} {dtype.name} ids of its header; "
            "copy it again"
        )
    return TokenFile.whole(path, "llm.c", dtype, HEADER_BYTES)

"""Cache-sized groups of rows, so that eager element-wise passes read main memory once instead of once per operation."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

# 2^18 fp32 elements are 1 MiB: a chunk's input and scratch buffers stay in cache. Measured with 8192 columns, PyTorch's
# cost per operation makes 2^16 half again as slow, and 2^20 is no faster.
ELEMENTS_PER_CHUNK = 2**18

_abridged = False


def row_chunks(x: Tensor) -> list[slice]:
    """Slices over the rows of `x` (rows, width), at least one.

    A single one on an accelerator, because launches cost more there, and under torch.compile, which fuses.
    """
    rows, width = x.shape
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return [slice(None)]
    return slices(rows, ELEMENTS_PER_CHUNK // max(1, width)) or [slice(0, 0)]


def slices(length: int, step: int) -> list[slice]:
    """Consecutive slices of `step` elements, at least 1, that cover `length`; the last may be shorter."""
    step = max(1, step)
    starts: Sequence[int] = range(0, length, step)
    if _abridged and len(starts) > 3:
        starts = [*starts[:2], starts[-1]]
    return [slice(start, min(start + step, length)) for start in starts]


@contextmanager
def abridged_loops() -> Iterator[None]:
    """Inside, `slices` are the first two and the last: for tensors without values, of which only the memory counts.

    What a loop over equal chunks holds at once is held from its second turn on.
    """
    global _abridged
    _abridged, before = True, _abridged
    try:
        yield
    finally:
        _abridged = before

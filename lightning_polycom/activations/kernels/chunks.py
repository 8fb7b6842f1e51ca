"""Cache-sized groups of rows, so that eager element-wise passes read main memory once instead of once per operation."""

from collections.abc import Iterator

from torch import Tensor

# 2^17 fp32 elements are 512 KiB: the input and the two or three scratch buffers of a chunk stay in a core's L2 cache.
ELEMENTS_PER_CHUNK = 2**17


def row_chunks(x: Tensor) -> Iterator[slice]:
    """Slices over the rows of `x` (rows, width); on an accelerator a single one, because launches cost more there."""
    rows, width = x.shape
    step = max(1, ELEMENTS_PER_CHUNK // max(1, width)) if x.device.type == "cpu" else max(1, rows)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))

"""Cache-sized groups of rows, so that eager element-wise passes read main memory once instead of once per operation."""

import torch
from torch import Tensor

# 2^18 fp32 elements are 1 MiB: a chunk's input and scratch buffers stay in cache. Measured with 8192 columns, PyTorch's
# cost per operation makes 2^16 half again as slow, and 2^20 is no faster.
ELEMENTS_PER_CHUNK = 2**18


def row_chunks(x: Tensor) -> list[slice]:
    """Slices over the rows of `x` (rows, width), at least one.

    A single one on an accelerator, because launches cost more there, and under torch.compile, which fuses.
    """
    rows, width = x.shape
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return [slice(None)]
    step = max(1, ELEMENTS_PER_CHUNK // max(1, width))
    return [slice(start, min(start + step, rows)) for start in range(0, max(1, rows), step)]

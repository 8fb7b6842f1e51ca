"""Sums of consecutive lines of a small matrix: gradients per expert, without atomics."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 512
SLICES = 8  # programs that share one segment, so that one expert with all tokens is not left to a single program


@triton.jit
def _segment_sums(values, offsets, sums, COLUMNS: tl.constexpr, SLICES: tl.constexpr, BLOCK: tl.constexpr):
    """Sum over one slice of one segment, column by column."""
    segment, part = tl.program_id(0), tl.program_id(1)
    start = tl.load(offsets + segment - 1, mask=segment > 0, other=0).to(tl.int64)
    end = tl.load(offsets + segment).to(tl.int64)
    length = tl.cdiv(end - start, SLICES)
    first, last = start + part * length, tl.minimum(start + (part + 1) * length, end)
    for column in tl.static_range(COLUMNS):
        lanes = tl.zeros((BLOCK,), tl.float32)
        for line in range(first, last, BLOCK):
            lines = line + tl.arange(0, BLOCK)
            lanes += tl.load(values + lines * COLUMNS + column, mask=lines < last, other=0.0)
        tl.store(sums + (segment * SLICES + part) * COLUMNS + column, tl.sum(lanes, 0))


def segment_sums(values: Tensor, offsets: Tensor) -> Tensor:
    """Sums of lines `offsets[i - 1]` to `offsets[i]` of `values` (lines, columns) fp32 -> (segments, columns).

    `offsets` (segments,) int32 ascends; lines after its last entry belong to no segment and are not read.
    """
    values, offsets = values.contiguous(), offsets.contiguous()
    sums = torch.empty(len(offsets), SLICES, values.shape[1], dtype=values.dtype, device=values.device)
    _segment_sums[(len(offsets), SLICES)](values, offsets, sums, values.shape[1], SLICES, BLOCK)
    return sums.sum(1)

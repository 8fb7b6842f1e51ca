"""Whose coefficients a row has, where every expert of a mixture has its own."""

import torch
from torch import Tensor
from torch.nn import functional as F


def expert_of_row(offsets: Tensor, rows: int) -> Tensor:
    """(num_experts,) int32, the end of each expert's rows, ascending -> the expert of each row, (rows,) int32.

    Rows after the last end belong to no expert and get `num_experts`. Nothing is read back to the host.
    """
    positions = torch.arange(rows, dtype=offsets.dtype, device=offsets.device)
    return torch.searchsorted(offsets, positions, right=True, out_int32=True)


def coefficients_of_rows(coefficients: Tensor, experts: Tensor) -> Tensor:
    """(..., num_experts) and (rows,) -> (..., rows, 1): each row's own, 0 for a row of no expert."""
    return F.pad(coefficients, (0, 1))[..., experts].unsqueeze(-1)


def sums_per_expert(shares: Tensor, offsets: Tensor) -> Tensor:
    """Sums of the lines of each expert, (rows, n) -> (num_experts, n), in fp64 and in the order of the rows.

    Lines of no expert, which may hold anything, are not read.
    """
    starts = F.pad(offsets, (1, 0)).long()
    # `unsafe` allows lines after the last end; checking for them would read the offsets.
    sums = torch.segment_reduce(shares.double(), "sum", offsets=starts, axis=0, unsafe=True, initial=0)
    return sums.to(shares.dtype)

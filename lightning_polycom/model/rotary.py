"""Rotary position embedding in the rotate-half layout (Su et al., 2021)."""

import torch
from torch import Tensor


def rotary_table(positions: Tensor, head_size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of `positions` (..., sequence): two fp32 tensors (..., sequence, head_size).

    Computed at every forward pass instead of cached: it costs less than one row of a matrix product, and there is
    no buffer to save, move or fill after initialisation on the meta device.
    """
    exponents = torch.arange(0, head_size, 2, device=positions.device, dtype=torch.float32) / head_size
    angles = positions.float()[..., None] * theta**-exponents
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Rotates `x` (batch, heads, sequence, head_size) by its positions; computed in fp32, returned in x's dtype."""
    cosine, sine = table
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cosine + torch.cat([-second, first], dim=-1) * sine).to(x.dtype)

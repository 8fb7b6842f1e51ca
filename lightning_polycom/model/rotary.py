"""Rotary position embedding in the rotate-half layout (Su et al., 2021)."""

import torch
from torch import Tensor

from lightning_polycom.activations.kernels.chunks import ELEMENTS_PER_CHUNK, slices


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
    return _Rotation.apply(x, *table)


class _Rotation(torch.autograd.Function):
    """The gradient is rotated back by the same angles: nothing of the input is kept, and no halves are put together."""

    @staticmethod
    def forward(ctx, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return _rotated(x, cosine, sine)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return _rotated(grad, *ctx.saved_tensors, back=True), None, None


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor, back: bool = False) -> Tensor:
    """Eagerly on a CPU large inputs in parts that stay in a core's cache, without putting halves together."""
    rows = ELEMENTS_PER_CHUNK // max(1, x[:1].numel())
    if torch.compiler.is_compiling() or x.device.type != "cpu" or rows >= len(x):
        # Cast to the dtype it has, torch 2.11 gives a compiled autograd function wrong gradients.
        wide = x if x.dtype == torch.float32 else x.float()
        first, second = wide.chunk(2, dim=-1)
        turned = torch.cat([second, -first] if back else [-second, first], dim=-1)
        y = wide * cosine + turned * sine
        return y if x.dtype == y.dtype else y.to(x.dtype)
    y, half = torch.empty_like(x), x.shape[-1] // 2
    for part in slices(len(x), rows):
        tables = (table[part] if table.ndim == x.ndim and len(table) > 1 else table for table in (cosine, sine))
        y[part, ..., :half], y[part, ..., half:] = _halves(x[part], *tables, back)
    return y


def _halves(x: Tensor, cosine: Tensor, sine: Tensor, back: bool) -> tuple[Tensor, Tensor]:
    first, second = x.float().chunk(2, dim=-1)
    # Both halves of the tables are the same.
    cosine, sine = (table[..., : table.shape[-1] // 2] for table in (cosine, sine))
    if back:
        return first * cosine + second * sine, second * cosine - first * sine
    return first * cosine - second * sine, second * cosine + first * sine

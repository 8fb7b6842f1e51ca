"""PolyReLU with a hand-written backward that keeps the input only.

z = max(x, 0)     y = b + sum_p a_p z^p     dx = [x > 0] g sum_p p a_p z^(p-1)     da_p = sum g z^p     db = sum g
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_polycom.activations.functional import accumulation_dtype
from lightning_polycom.activations.kernels.chunks import row_chunks


def _horner(z: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    """sum_p c_p z^(p-1): a new tensor shaped like `z`."""
    if len(coefficients) == 1:
        return coefficients[0].expand_as(z).clone()
    y = z * coefficients[-1]
    for c in coefficients[-2:0:-1]:
        y.add_(c).mul_(z)
    return y.add_(coefficients[0])


class PolyReLUFunction(torch.autograd.Function):
    """`functional.polyrelu` with the backward above; deterministic, one pass of cache-sized row chunks each way."""

    @staticmethod
    def forward(ctx, x: Tensor, coefficients: Tensor, bias: Tensor | None) -> Tensor:
        """Keeps `x` for backward."""
        rows, dtype = x.reshape(-1, x.shape[-1]), accumulation_dtype(x)
        a = coefficients.to(dtype).unbind()
        y = torch.empty_like(rows, memory_format=torch.contiguous_format)
        for part in row_chunks(rows):
            z = torch.relu(rows[part].to(dtype))
            out = _horner(z, a).mul_(z)
            y[part] = out if bias is None else out.add_(bias.to(dtype))
        ctx.save_for_backward(x, coefficients)
        ctx.bias_dtype = None if bias is None else bias.dtype
        return y.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Gradients of x, coefficients and bias; coefficient gradients are per-row partials, then one sum."""
        x, coefficients = ctx.saved_tensors
        rows, grads = x.reshape(-1, x.shape[-1]), grad_y.reshape(-1, x.shape[-1])
        dtype, order = accumulation_dtype(x), coefficients.numel()
        slopes = [p * a for p, a in enumerate(coefficients.to(dtype).unbind(), start=1)]
        dx = torch.empty_like(rows, memory_format=torch.contiguous_format)
        partials = torch.empty(rows.shape[0], order + 1, dtype=dtype, device=x.device)
        for part in row_chunks(rows):
            input_, g = rows[part].to(dtype), grads[part].to(dtype)
            z = torch.relu(input_)
            product = g
            for p in range(order + 1):
                product = product if p == 0 else product * z
                partials[part, p] = product.sum(1)
            dx[part] = torch.ops.aten.threshold_backward(_horner(z, slopes).mul_(g), input_, 0)
        totals = partials.sum(0)
        grad_bias = None if ctx.bias_dtype is None else totals[:1].to(ctx.bias_dtype)
        return dx.view(x.shape), totals[1:].to(coefficients.dtype), grad_bias

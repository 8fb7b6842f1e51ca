"""PolyNorm with a hand-written backward that keeps the input and `order` numbers per row.

With S_p = mean(x^2p), r_p = (S_p + eps)^(-1/2) and c_p = a_p r_p, per row of width D and g = dL/dy:

    y    = b + sum_p c_p x^p
    T_p  = sum_j g_j x_j^p                        da_p = sum_rows r_p T_p        db = sum g
    k_p  = (p / D) c_p r_p^2 T_p
    dx   = g sum_p p c_p x^(p-1)  -  sum_p k_p x^(2p-1)
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_polycom.activations.functional import accumulation_dtype
from lightning_polycom.activations.kernels.chunks import row_chunks


def _horner(x: Tensor, row_coefficients: Tensor) -> Tensor:
    """sum_p c_p x^(p-1) for per-row coefficients (rows, order): a new tensor shaped like `x`."""
    order = row_coefficients.shape[1]
    if order == 1:
        return row_coefficients[:, 0:1].expand_as(x).clone()
    y = x * row_coefficients[:, order - 1 : order]
    for p in range(order - 2, 0, -1):
        y.add_(row_coefficients[:, p : p + 1]).mul_(x)
    return y.add_(row_coefficients[:, 0:1])


def _inverse_norms(z: Tensor, order: int, eps: float) -> Tensor:
    """r_p = rsqrt(mean(z^2p) + eps) for every row of `z`: (rows, order)."""
    norms, power, width = z.new_empty(z.shape[0], order), z, z.shape[1]
    for p in range(order):
        power = power if p == 0 else power * z
        norms[:, p] = torch.linalg.vector_norm(power, dim=1).square_().div_(width)
    return norms.add_(eps).rsqrt_()


def _projections(g: Tensor, z: Tensor, order: int) -> Tensor:
    """T_p = sum_j g_j z_j^p for every row: (rows, order)."""
    sums, product = g.new_empty(g.shape[0], order), g
    for p in range(order):
        product = product * z
        sums[:, p] = product.sum(1)
    return sums


class PolyNormFunction(torch.autograd.Function):
    """`functional.polynorm` with the backward above; deterministic, one pass of cache-sized row chunks each way."""

    @staticmethod
    def forward(ctx, x: Tensor, coefficients: Tensor, bias: Tensor | None, eps: float) -> Tensor:
        """Keeps `x` and the inverse norms (order numbers a row) for backward."""
        rows = x.reshape(-1, x.shape[-1])
        dtype, order = accumulation_dtype(x), coefficients.numel()
        a = coefficients.to(dtype)
        y = torch.empty_like(rows, memory_format=torch.contiguous_format)
        norms = torch.empty(rows.shape[0], order, dtype=dtype, device=x.device)
        for part in row_chunks(rows):
            z = rows[part].to(dtype)
            norms[part] = _inverse_norms(z, order, eps)
            out = _horner(z, norms[part] * a).mul_(z)
            y[part] = out if bias is None else out.add_(bias.to(dtype))
        ctx.save_for_backward(x, coefficients, norms)
        ctx.bias_dtype = None if bias is None else bias.dtype
        return y.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        """Gradients of x, coefficients and bias; coefficient gradients are per-row partials, then one sum."""
        x, coefficients, norms = ctx.saved_tensors
        rows, grads = x.reshape(-1, x.shape[-1]), grad_y.reshape(-1, x.shape[-1])
        order, width, dtype = coefficients.numel(), x.shape[-1], norms.dtype
        powers = torch.arange(1, order + 1, dtype=dtype, device=x.device)
        c = norms * coefficients.to(dtype)
        dx = torch.empty_like(rows, memory_format=torch.contiguous_format)
        partials = torch.empty(rows.shape[0], order + 1, dtype=dtype, device=x.device)
        for part in row_chunks(rows):
            z, g = rows[part].to(dtype), grads[part].to(dtype)
            t = _projections(g, z, order)
            partials[part, 0], partials[part, 1:] = g.sum(1), norms[part] * t
            k = c[part] * norms[part].square() * t * (powers / width)
            dx[part] = _horner(z, c[part] * powers).mul_(g).sub_(_horner(z * z, k).mul_(z))
        totals = partials.sum(0)
        grad_bias = None if ctx.bias_dtype is None else totals[:1].to(ctx.bias_dtype)
        return dx.view(x.shape), totals[1:].to(coefficients.dtype), grad_bias, None

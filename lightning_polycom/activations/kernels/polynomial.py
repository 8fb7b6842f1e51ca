"""The autograd function of all polynomial activations: keeps its input and `order` numbers a row for backward."""

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_polycom.activations.functional import accumulation_dtype
from lightning_polycom.activations.kernels import row_formulas
from lightning_polycom.activations.kernels.chunks import row_chunks


def _as_rows(x: Tensor) -> Tensor:
    """(..., width) -> (rows, width), also where there are no rows or no channels."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


class PolynomialFunction(torch.autograd.Function):
    """y = (bias + sum_p a_p r_p base(x)^p) * up, with the backward of `row_formulas`.

    Deterministic, one pass over cache-sized row chunks each way; under torch.compile one chunk, which it fuses.
    """

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        up: Tensor | None,
        coefficients: Tensor,
        bias: Tensor | None,
        slope: Tensor | None,
        base: row_formulas.Base,
        eps: float | None,
    ) -> Tensor:
        """`up` is None if not gated, `slope` if there is no PReLU, `eps` if the powers are not normalised."""
        dtype, rows, up_rows = accumulation_dtype(x), _as_rows(x), None if up is None else _as_rows(up)
        a, (b, s) = coefficients.to(dtype).unbind(), (None if t is None else t.to(dtype) for t in (bias, slope))
        y = torch.empty(rows.shape, dtype=x.dtype, device=x.device)
        kept = None if eps is None else torch.empty(rows.shape[0], len(a), dtype=dtype, device=x.device)
        for part in row_chunks(rows):
            z = row_formulas.apply_base(rows[part].to(dtype), base, s)
            norms = None if eps is None else row_formulas.inverse_norms(z, len(a), eps)
            if norms is not None:
                kept[part] = torch.cat(norms, 1)
            out = row_formulas.value(z, a, b, norms)
            y[part] = out if up is None else out.mul_(up_rows[part])
        ctx.save_for_backward(x, up, coefficients, bias, slope, kept)
        ctx.base = base
        return y.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, up, coefficients, bias and slope; sums over rows are per-row partials, then one sum."""
        x, up, coefficients, bias, slope, kept = ctx.saved_tensors
        rows, dtype = _as_rows(x), accumulation_dtype(x)
        a, (b, s) = coefficients.to(dtype).unbind(), (None if t is None else t.to(dtype) for t in (bias, slope))
        grads, up_rows = _as_rows(grad_y), None if up is None else _as_rows(up)
        dx, dup = (None if t is None else torch.empty(rows.shape, dtype=t.dtype, device=t.device) for t in (x, up))
        partials, slope_partials = [], []
        for part in row_chunks(rows):
            input_, g = rows[part].to(dtype), grads[part].to(dtype)
            z = row_formulas.apply_base(input_, ctx.base, s)
            norms = None if kept is None else kept[part].split(1, dim=1)
            if up is not None:
                dup[part] = row_formulas.value(z, a, b, norms).mul_(g)
                g = g * up_rows[part]
            sums, pulls = row_formulas.projections(g, z, a, norms)
            partials.append(sums)
            dz = row_formulas.base_argument_gradient(g, z, a, norms, pulls)
            dx[part], below = row_formulas.base_gradient(dz, input_, ctx.base, s)
            slope_partials.append(below)
        totals = torch.cat(partials).sum(0)
        grad_coefficients = totals[1:].to(coefficients.dtype)
        grad_bias = None if bias is None else totals[0].reshape(bias.shape).to(bias.dtype)
        grad_slope = None if slope is None else torch.cat(slope_partials).sum(0, keepdim=True).to(slope.dtype)
        dup = None if up is None else dup.view(up.shape)
        return dx.view(x.shape), dup, grad_coefficients, grad_bias, grad_slope, None, None

"""The autograd function of all polynomial activations in plain torch: keeps its input and `order` numbers a row."""

import torch
from torch import Tensor

from lightning_polycom.activations.functional import accumulation_dtype
from lightning_polycom.activations.kernels import row_formulas
from lightning_polycom.activations.kernels.chunks import row_chunks
from lightning_polycom.activations.kernels.experts import coefficients_of_rows, expert_of_row, sums_per_expert


def _as_rows(x: Tensor) -> Tensor:
    """(..., width) -> (rows, width), also where there are no rows or no channels."""
    return x.reshape(x.shape[:-1].numel(), x.shape[-1])


class Numbers:
    """Coefficients, bias and PReLU slope in the accumulation dtype, and which of them a row has."""

    def __init__(
        self,
        rows: Tensor,
        coefficients: Tensor,
        bias: Tensor | None,
        slope: Tensor | None,
        offsets: Tensor | None,
    ):
        dtype = accumulation_dtype(rows)
        self.scope: row_formulas.Scope = "layer" if coefficients.ndim == 1 else "channel"
        self.coefficients = coefficients.to(dtype)
        self.bias, self.slope = (None if t is None else t.to(dtype) for t in (bias, slope))
        if offsets is not None:
            experts = expert_of_row(offsets, len(rows))
            self.scope = "expert"
            self.coefficients = coefficients_of_rows(self.coefficients, experts)
            self.bias = None if self.bias is None else coefficients_of_rows(self.bias, experts)

    def of(self, part: slice) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """The coefficients in ascending powers, and the bias, of some rows."""
        if self.scope != "expert":
            return self.coefficients.unbind(), self.bias
        return self.coefficients[:, part].unbind(), None if self.bias is None else self.bias[part]


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
        offsets: Tensor | None,
        base: row_formulas.Base,
        eps: float | None,
    ) -> Tensor:
        """`up` is None if not gated, `slope` if there is no PReLU, `eps` if the powers are not normalised.

        `coefficients` is (order,), for channels (order, width), for experts (order, num_experts) with the `offsets`
        of their rows; `bias` is to match.
        """
        dtype, rows, up_rows = accumulation_dtype(x), _as_rows(x), None if up is None else _as_rows(up)
        numbers, order = Numbers(rows, coefficients, bias, slope, offsets), len(coefficients)
        y = torch.empty(rows.shape, dtype=x.dtype, device=x.device)
        kept = None if eps is None else torch.empty(rows.shape[0], order, dtype=dtype, device=x.device)
        for part in row_chunks(rows):
            a, b = numbers.of(part)
            z = row_formulas.apply_base(rows[part].to(dtype), base, numbers.slope)
            norms = None if eps is None else row_formulas.inverse_norms(z, order, eps)
            if norms is not None:
                kept[part] = norms
            out = row_formulas.value(z, row_formulas.scaled(a, norms), b)
            y[part] = out if up is None else out.mul_(up_rows[part])
        ctx.save_for_backward(x, up, coefficients, bias, slope, offsets, kept)
        ctx.base = base
        return y.view(x.shape)

    @staticmethod
    def backward(ctx, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, up, coefficients, bias and slope; sums over rows are shares of chunks, then one sum."""
        _refuse_second_derivative()
        x, up, coefficients, bias, slope, offsets, kept = ctx.saved_tensors
        rows, dtype = _as_rows(x), accumulation_dtype(x)
        numbers = Numbers(rows, coefficients, bias, slope, offsets)
        grads, up_rows = _as_rows(grad_y), None if up is None else _as_rows(up)
        dx, dup = (None if t is None else torch.empty(rows.shape, dtype=t.dtype, device=t.device) for t in (x, up))
        shares, slope_shares = [], []
        for part in row_chunks(rows):
            a, b = numbers.of(part)
            input_, g = rows[part].to(dtype), grads[part].to(dtype)
            z = row_formulas.apply_base(input_, ctx.base, numbers.slope)
            norms = None if kept is None else kept[part]
            if up is not None:
                dup[part] = row_formulas.value(z, row_formulas.scaled(a, norms), b).mul_(g)
                g = g * up_rows[part]
            if norms is None:  # before the sums: torch.compile fuses an element-wise loop with sums that follow it
                dz = row_formulas.elementwise_gradient(g, z, a)
                dx[part] = row_formulas.base_gradient(dz, input_, ctx.base, numbers.slope)
            share, pulls = row_formulas.projections(g, z, a, norms, numbers.scope)
            shares.append(share)
            if norms is not None:
                dz = row_formulas.normalised_gradient(g, z, a, norms, pulls)
                dx[part] = row_formulas.base_gradient(dz, input_, ctx.base, numbers.slope)
            if slope is not None:
                slope_shares.append(row_formulas.slope_share(dz, input_, numbers.scope).unsqueeze(1))
        totals = torch.cat(shares).sum(0) if offsets is None else sums_per_expert(torch.cat(shares), offsets).T
        grad_coefficients = totals[1:].to(coefficients.dtype)
        grad_bias = None if bias is None else totals[0].reshape(bias.shape).to(bias.dtype)
        grad_slope = None if slope is None else _total(torch.cat(slope_shares), offsets).to(slope.dtype)
        dup = None if up is None else dup.view(up.shape)
        return dx.view(x.shape), dup, grad_coefficients, grad_bias, grad_slope, None, None, None


def _refuse_second_derivative() -> None:
    """Raises where this derivative is itself to be differentiated, which would leave terms out without a word."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError("polynomial activations can be differentiated once; create_graph=True asks for more")


def _total(shares: Tensor, offsets: Tensor | None) -> Tensor:
    """(rows or chunks, 1) -> (1,), without the rows of no expert."""
    return shares.sum(0) if offsets is None else sums_per_expert(shares, offsets).sum(0)

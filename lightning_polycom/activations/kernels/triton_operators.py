"""The Triton kernels as torch operators, so that autograd differentiates them and torch.compile does not break."""

import torch
from torch import Tensor

from lightning_polycom.activations.kernels import triton_launch
from lightning_polycom.activations.kernels.triton_segments import segment_sums

NAME = "lightning_polycom::polynomial"


@torch.library.custom_op(f"{NAME}_forward", mutates_args=())
def polynomial_forward(
    x: Tensor,
    up: Tensor | None,
    coefficients: Tensor,
    bias: Tensor | None,
    slope: Tensor | None,
    experts: Tensor | None,
    offsets: Tensor | None,
    base: str,
    eps: float | None,
) -> tuple[Tensor, Tensor]:
    """The value, and r_p of every row; see `triton_launch.launch_forward`.

    `experts` (rows,) and `offsets` (num_experts,), both int32, say whose coefficients a row has; see `experts`.
    """
    with torch.cuda.device_of(x):  # Triton launches on the current device; nothing for CPU tensors
        return triton_launch.launch_forward(x, up, coefficients, bias, slope, experts, base, eps)


@polynomial_forward.register_fake
def _(x, up, coefficients, bias, slope, experts, offsets, base, eps):
    rows = x.shape[:-1].numel()
    return x.new_empty(x.shape), x.new_empty(rows, 0 if eps is None else len(coefficients), dtype=torch.float32)


@torch.library.custom_op(f"{NAME}_backward", mutates_args=())
def polynomial_backward(
    grad: Tensor,
    x: Tensor,
    up: Tensor | None,
    norms: Tensor,
    coefficients: Tensor,
    bias: Tensor | None,
    slope: Tensor | None,
    experts: Tensor | None,
    base: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """dx, dup and the shares of every row; see `triton_launch.launch_backward`."""
    with torch.cuda.device_of(x):  # Triton launches on the current device; nothing for CPU tensors
        return triton_launch.launch_backward(grad, x, up, norms, coefficients, bias, slope, experts, base)


@polynomial_backward.register_fake
def _(grad, x, up, norms, coefficients, bias, slope, experts, base):
    num_shares = len(coefficients) + 1 + (slope is not None)
    shares = x.new_empty(x.shape[:-1].numel(), num_shares, dtype=torch.float32)
    return x.new_empty(x.shape), x.new_empty(0) if up is None else up.new_empty(up.shape), shares


@torch.library.custom_op(f"{NAME}_segment_sums", mutates_args=())
def sums_per_expert(shares: Tensor, offsets: Tensor) -> Tensor:
    """(rows, n) fp32 and offsets (num_experts,) int32 -> (num_experts, n)."""
    with torch.cuda.device_of(shares):  # Triton launches on the current device; nothing for CPU tensors
        return segment_sums(shares, offsets)


@sums_per_expert.register_fake
def _(shares, offsets):
    return shares.new_empty(len(offsets), shares.shape[1])


def _keep_for_backward(ctx, inputs, output) -> None:
    *tensors, ctx.base, _ = inputs
    ctx.save_for_backward(*tensors, output[1])


def _differentiate(ctx, grad_y, _):
    x, up, coefficients, bias, slope, experts, offsets, norms = ctx.saved_tensors
    dx, dup, shares = polynomial_backward(grad_y, x, up, norms, coefficients, bias, slope, experts, ctx.base)
    totals = shares.sum(0) if offsets is None else sums_per_expert(shares, offsets).T
    order = len(coefficients)
    grad_coefficients = totals[1 : order + 1].to(coefficients.dtype)
    grad_bias = None if bias is None else totals[0].reshape(bias.shape).to(bias.dtype)
    grad_slope = None if slope is None else totals[order + 1].sum().reshape(slope.shape).to(slope.dtype)
    return dx, None if up is None else dup, grad_coefficients, grad_bias, grad_slope, None, None, None, None


polynomial_forward.register_autograd(_differentiate, setup_context=_keep_for_backward)

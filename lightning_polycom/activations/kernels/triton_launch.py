"""Allocates the results and launches the Triton kernels, with a row divided as suits its width."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_polycom.activations.kernels.triton_elementwise import elementwise_backward, elementwise_forward
from lightning_polycom.activations.kernels.triton_normalised import normalised_backward, normalised_forward


class Division(NamedTuple):
    """Elements of a chunk, warps of a program, and whether the row stays in registers between two passes."""

    block: int
    num_warps: int
    keep: bool


def divide_row(width: int, tensors: int) -> Division:
    """How one program goes over the rows of `width` elements of `tensors` tensors: 1 forward, 2 backward, 3 if gated.

    Chosen from the registers that the compiler reports for Hopper, so that nothing spills and at least two programs,
    or 64 KiB of loads, are in flight on each multiprocessor. A function of these numbers alone, not of trial runs:
    another division adds up in another order, and two runs would not give the same bits.
    """
    kept = {1: 44, 2: 24, 3: 16}[tensors]  # elements of each tensor that a thread can hold
    num_warps = next((n for n in (1, 2, 4, 8) if width <= n * 32 * kept), 16)
    keep = num_warps <= 8 or (tensors == 1 and width <= 16_384)
    if not keep:
        num_warps = next((n for n in (4, 8) if width <= n * 32 * (64 if tensors == 3 else 48)), 16)
    # 16-byte loads, or shorter ones where the last chunk would be mostly padding, or where registers are scarce.
    sizes = [num_warps * 32 * elements for elements in ((8, 4, 2) if keep else (4, 2))]
    block = next((size for size in sizes if -(-width // size) * size <= 1.13 * width), sizes[-1])
    return Division(block, num_warps, keep)


def launch_forward(
    x: Tensor,
    up: Tensor | None,
    coefficients: Tensor,
    bias: Tensor | None,
    slope: Tensor | None,
    experts: Tensor | None,
    base: str,
    eps: float | None,
) -> tuple[Tensor, Tensor]:
    """The value, shaped like `x`, and r_p of every row: (rows, order) fp32, or (rows, 0) if `eps` is None."""
    rows, up_rows = _as_rows(x), None if up is None else _as_rows(up)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    norms = torch.empty(len(rows), 0 if eps is None else len(coefficients), dtype=torch.float32, device=x.device)
    if not x.numel():
        return y, norms.zero_()
    kernel = elementwise_forward if eps is None else normalised_forward
    kernel[(len(rows),)](
        rows, rows if up is None else up_rows, y, norms, *_numbers(x, coefficients, bias, slope, experts),
        *_strides(rows, up_rows), coefficients[0].numel(), 0.0 if eps is None else eps,
        **_constants(divide_row(x.shape[-1], 1), rows, coefficients, base, up, experts, bias),
    )  # fmt: skip
    return y, norms


def launch_backward(
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
    """dx, dup (of no element if not gated), and each row's share of the gradients of bias, coefficients and slope.

    The shares are (rows, order + 1), with PReLU (rows, order + 2), fp32.
    """
    grads, rows, up_rows = _as_rows(grad), _as_rows(x), None if up is None else _as_rows(up)
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    dup = x.new_empty(0) if up is None else torch.empty(up.shape, dtype=up.dtype, device=up.device)
    num_shares = len(coefficients) + 1 + (slope is not None)
    shares = torch.empty(len(rows), num_shares, dtype=torch.float32, device=x.device)
    if not x.numel():
        return dx, dup, shares.zero_()
    kernel = normalised_backward if norms.numel() else elementwise_backward
    kernel[(len(rows),)](
        grads, rows, rows if up is None else up_rows, norms, dx, dup, shares,
        *_numbers(x, coefficients, bias, slope, experts),
        *_strides(grads, rows, up_rows), coefficients[0].numel(),
        **_constants(divide_row(x.shape[-1], 2 if up is None else 3), rows, coefficients, base, up, experts, bias),
    )  # fmt: skip
    return dx, dup, shares


def _as_rows(t: Tensor) -> Tensor:
    """(..., width) -> (rows, width) with neighbouring columns side by side; any stride between rows is kept."""
    rows = t.reshape(t.shape[:-1].numel(), t.shape[-1])
    return rows if rows.stride(1) == 1 or rows.shape[1] <= 1 else rows.contiguous()


def _numbers(unused: Tensor, *tensors: Tensor | None) -> list[Tensor]:
    """Coefficients and the like without gaps; in the place of those that are not there, a tensor that is never read."""
    return [unused if t is None else t.contiguous() for t in tensors]


def _strides(*rows: Tensor | None) -> list[int]:
    return [0 if t is None else t.stride(0) for t in rows]


def _constants(
    division: Division,
    rows: Tensor,
    coefficients: Tensor,
    base: str,
    up: Tensor | None,
    experts: Tensor | None,
    bias: Tensor | None,
) -> dict[str, object]:
    """The kernels' compile-time constants."""
    return {
        "WIDTH": rows.shape[1],
        "BLOCK": division.block,
        "KEEP": division.keep,
        "ORDER": len(coefficients),
        "BASE": base,
        "GATED": up is not None,
        "PER_EXPERT": experts is not None,
        "HAS_BIAS": bias is not None,
        "num_warps": division.num_warps,
    }

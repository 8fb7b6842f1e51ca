"""Triton kernels of the polynomials that are not normalised: each element is read and written once.

One program a row, though nothing crosses elements but the sums for the coefficients' gradients. The arguments are those
of the kernels in `triton_normalised`; `norms`, `eps` and KEEP have no use here.
"""

import triton
import triton.language as tl

from lightning_polycom.activations.kernels.triton_rows import (
    ONCE,
    add_projections,
    apply_base,
    derivative,
    horner,
    load_ahead,
    load_bias,
    load_coefficients,
    row_sums,
    store_chunk,
)


@triton.jit
def elementwise_forward(
    x, up, y, norms, coefficients, bias, slope, experts, x_stride, up_stride, num_experts, eps,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, KEEP: tl.constexpr, ORDER: tl.constexpr, BASE: tl.constexpr,
    GATED: tl.constexpr, PER_EXPERT: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """y = (b + sum_p a_p base(x)^p) up of one row."""
    row = tl.program_id(0).to(tl.int64)
    x, up, y = x + row * x_stride, up + row * up_stride, y + row * WIDTH
    a = load_coefficients(coefficients, experts, num_experts, row, ORDER, PER_EXPERT)
    b = load_bias(bias, experts, num_experts, row, HAS_BIAS, PER_EXPERT)
    s = tl.load(slope).to(tl.float32) if BASE == "prelu" else 0.0
    xs, us = (), ()
    for i in tl.static_range((WIDTH + BLOCK - 1) // BLOCK):
        xs = load_ahead(xs, x, i, WIDTH, BLOCK, ONCE)
        if GATED:
            us = load_ahead(us, up, i, WIDTH, BLOCK, ONCE)
        z = apply_base(xs[i].to(tl.float32), s, BASE)
        value = horner(z, a) * z + b
        if GATED:
            value = value * us[i].to(tl.float32)
        store_chunk(y, i, value, WIDTH, BLOCK)


@triton.jit
def elementwise_backward(
    grad, x, up, norms, dx, dup, shares, coefficients, bias, slope, experts,
    grad_stride, x_stride, up_stride, num_experts,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, KEEP: tl.constexpr, ORDER: tl.constexpr, BASE: tl.constexpr,
    GATED: tl.constexpr, PER_EXPERT: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """dx, dup and the shares of one row in the sums over rows: of bias, coefficients and, with PReLU, slope."""
    row = tl.program_id(0).to(tl.int64)
    grad, x, up = grad + row * grad_stride, x + row * x_stride, up + row * up_stride
    dx, dup = dx + row * WIDTH, dup + row * WIDTH
    a = load_coefficients(coefficients, experts, num_experts, row, ORDER, PER_EXPERT)
    b = load_bias(bias, experts, num_experts, row, HAS_BIAS, PER_EXPERT)
    s = tl.load(slope).to(tl.float32) if BASE == "prelu" else 0.0
    num_sums: tl.constexpr = ORDER + (2 if BASE == "prelu" else 1)
    lanes = (tl.zeros((BLOCK,), tl.float32),) * num_sums
    xs, gs, us = (), (), ()
    for i in tl.static_range((WIDTH + BLOCK - 1) // BLOCK):
        xs, gs = load_ahead(xs, x, i, WIDTH, BLOCK, ONCE), load_ahead(gs, grad, i, WIDTH, BLOCK, ONCE)
        x_i, g = xs[i].to(tl.float32), gs[i].to(tl.float32)
        z = apply_base(x_i, s, BASE)
        if GATED:
            us = load_ahead(us, up, i, WIDTH, BLOCK, ONCE)
            store_chunk(dup, i, (horner(z, a) * z + b) * g, WIDTH, BLOCK)
            g = g * us[i].to(tl.float32)
        sums, dz = add_projections(lanes, g, z, ORDER), horner(z, derivative(a)) * g
        if BASE == "relu":
            dz = tl.where(x_i <= 0, 0.0, dz)
        if BASE == "prelu":
            sums = sums + (lanes[ORDER + 1] + tl.where(x_i > 0, 0.0, dz * x_i),)
            dz = tl.where(x_i > 0, dz, s * dz)
        store_chunk(dx, i, dz, WIDTH, BLOCK)
        lanes = sums
    totals = row_sums(lanes)
    for p in tl.static_range(num_sums):
        tl.store(shares + row * num_sums + p, totals[p])

"""Triton kernels of the polynomials of normalised powers: sums over a row, then its elements.

One program a row. With KEEP the row's chunks stay in registers from the sums to the elements, so that each tensor is
read once; without it they are loaded again, from a cache, which is what rows too wide for the registers get. No member
normalises the powers of a PReLU, so `slope` has no use here.
"""

import triton
import triton.language as tl

from lightning_polycom.activations.kernels.triton_rows import (
    FIRST,
    LAST,
    ONCE,
    add_projections,
    apply_base,
    derivative,
    horner,
    load_ahead,
    load_bias,
    load_coefficients,
    row_sums,
    scaled,
    store_chunk,
)


@triton.jit
def _inverse_norms(squares, norms, eps, WIDTH: tl.constexpr):
    """r_p = (mean(z^2p) + eps)^(-1/2) from the sums of squares; also written to `norms`."""
    r = ()
    for p in tl.static_range(len(squares)):
        r_p = 1.0 / tl.sqrt_rn(squares[p] / WIDTH + eps)
        tl.store(norms + p, r_p)
        r = r + (r_p,)
    return r


@triton.jit
def normalised_forward(
    x, up, y, norms, coefficients, bias, slope, experts, x_stride, up_stride, num_experts, eps,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, KEEP: tl.constexpr, ORDER: tl.constexpr, BASE: tl.constexpr,
    GATED: tl.constexpr, PER_EXPERT: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """y = (b + sum_p a_p r_p base(x)^p) up of one row, and its r_p."""
    row = tl.program_id(0).to(tl.int64)
    x, up, y = x + row * x_stride, up + row * up_stride, y + row * WIDTH
    a = load_coefficients(coefficients, experts, num_experts, row, ORDER, PER_EXPERT)
    b = load_bias(bias, experts, num_experts, row, HAS_BIAS, PER_EXPERT)
    chunks: tl.constexpr = (WIDTH + BLOCK - 1) // BLOCK
    first: tl.constexpr = ONCE if KEEP else FIRST
    xs, us, lanes = (), (), (tl.zeros((BLOCK,), tl.float32),) * ORDER
    for i in tl.static_range(chunks):
        xs = load_ahead(xs, x, i, WIDTH, BLOCK, first)
        z = apply_base(xs[i].to(tl.float32), 0.0, BASE)
        sums, power = (), z
        for p in tl.static_range(ORDER):
            sums, power = sums + (lanes[p] + power * power,), power * z
        lanes = sums
    c = scaled(_inverse_norms(row_sums(lanes), norms + row * ORDER, eps, WIDTH), a)
    if not KEEP:
        xs = ()
    for i in tl.static_range(chunks):
        xs = load_ahead(xs, x, i, WIDTH, BLOCK, LAST)
        if GATED:
            us = load_ahead(us, up, i, WIDTH, BLOCK, ONCE)
        z = apply_base(xs[i].to(tl.float32), 0.0, BASE)
        value = horner(z, c) * z + b
        if GATED:
            value = value * us[i].to(tl.float32)
        store_chunk(y, i, value, WIDTH, BLOCK)


@triton.jit
def _load_norms(norms, ORDER: tl.constexpr):
    r = ()
    for p in tl.static_range(ORDER):
        r = r + (tl.load(norms + p),)
    return r


@triton.jit
def _norm_gradient(totals, r, a, WIDTH: tl.constexpr):
    """k_p = (p / D) r_p^3 a_p T_p, from left to right: r^3 alone underflows for rows of 1e4 at order 4."""
    k = ()
    for p in tl.static_range(len(r)):
        k = k + (a[p] * totals[p + 1] * r[p] * r[p] * r[p] * ((p + 1) / WIDTH),)
    return k


@triton.jit
def _store_shares(shares, totals, r):
    tl.store(shares, totals[0])
    for p in tl.static_range(len(r)):
        tl.store(shares + p + 1, r[p] * totals[p + 1])


@triton.jit
def normalised_backward(
    grad, x, up, norms, dx, dup, shares, coefficients, bias, slope, experts,
    grad_stride, x_stride, up_stride, num_experts,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, KEEP: tl.constexpr, ORDER: tl.constexpr, BASE: tl.constexpr,
    GATED: tl.constexpr, PER_EXPERT: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """dx, dup and the shares of one row in the sums over rows: of the bias, then of the coefficients."""
    row = tl.program_id(0).to(tl.int64)
    grad, x, up = grad + row * grad_stride, x + row * x_stride, up + row * up_stride
    dx, dup, shares = dx + row * WIDTH, dup + row * WIDTH, shares + row * (ORDER + 1)
    a = load_coefficients(coefficients, experts, num_experts, row, ORDER, PER_EXPERT)
    b = load_bias(bias, experts, num_experts, row, HAS_BIAS, PER_EXPERT)
    r = _load_norms(norms + row * ORDER, ORDER)
    c = scaled(r, a)
    chunks: tl.constexpr = (WIDTH + BLOCK - 1) // BLOCK
    first: tl.constexpr = ONCE if KEEP else FIRST
    xs, gs, us, lanes = (), (), (), (tl.zeros((BLOCK,), tl.float32),) * (ORDER + 1)
    for i in tl.static_range(chunks):
        xs, gs = load_ahead(xs, x, i, WIDTH, BLOCK, first), load_ahead(gs, grad, i, WIDTH, BLOCK, first)
        z, g = apply_base(xs[i].to(tl.float32), 0.0, BASE), gs[i].to(tl.float32)
        if GATED:
            us = load_ahead(us, up, i, WIDTH, BLOCK, first)
            store_chunk(dup, i, (horner(z, c) * z + b) * g, WIDTH, BLOCK)
            g = g * us[i].to(tl.float32)
        lanes = add_projections(lanes, g, z, ORDER)
    totals = row_sums(lanes)
    k = _norm_gradient(totals, r, a, WIDTH)
    _store_shares(shares, totals, r)
    if not KEEP:
        xs, gs, us = (), (), ()
    for i in tl.static_range(chunks):
        xs, gs = load_ahead(xs, x, i, WIDTH, BLOCK, LAST), load_ahead(gs, grad, i, WIDTH, BLOCK, LAST)
        x_i, g = xs[i].to(tl.float32), gs[i].to(tl.float32)
        if GATED:
            us = load_ahead(us, up, i, WIDTH, BLOCK, LAST)
            g = g * us[i].to(tl.float32)
        z = apply_base(x_i, 0.0, BASE)
        dz = horner(z, derivative(c)) * g - horner(z * z, k) * z
        store_chunk(dx, i, tl.where(x_i <= 0, 0.0, dz) if BASE == "relu" else dz, WIDTH, BLOCK)

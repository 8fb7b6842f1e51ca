"""Eager reference formulas, written as in the papers: the truth that every faster path is tested against.

Shapes: `x` is (..., width); the result has the shape and dtype of `x`. Powers, means and sums are taken in fp32
(fp64 for fp64 input), because bf16 has 8 bits and fp16 overflows at x^6 for |x| > 6.35.
`coefficients[p - 1]` belongs to power p: a number per power, (order,), or one per power and channel, (order, width).
`bias` is (1,) or (width,) to match.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_polycom.errors import InputError


def floating(x: Tensor) -> Tensor:
    """`x` itself, if it holds floating-point numbers.

    Raises:
        InputError: `x` holds integers, booleans or complex numbers.
    """
    if not x.dtype.is_floating_point:
        raise InputError(f"activation: found input of dtype {x.dtype}; give floating-point numbers")
    return x


def accumulation_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which powers and sums of `x` are taken: fp64 for fp64 input, else fp32."""
    return torch.float64 if floating(x).dtype == torch.float64 else torch.float32


def relu2(x: Tensor) -> Tensor:
    """ReLU squared, max(x, 0)^2 (So et al., 2021)."""
    return F.relu(x).square()


def xielu(x: Tensor, alpha_positive: Tensor, alpha_negative: Tensor, beta: float) -> Tensor:
    """xIELU (Huang and Schlag, 2025): the integral of a linear and an exponential piece.

    alpha_positive x^2 + beta x above 0, and alpha_negative (exp(x) - 1 - x) + beta x below; the alphas are already
    positive. Value and slope (0 and beta) agree at 0.
    """
    z = x.to(accumulation_dtype(x))
    negative = z.clamp(max=0)  # each piece is 0 on the other's side
    curved = alpha_positive * F.relu(z).square() + alpha_negative * (torch.expm1(negative) - negative)
    y = curved + beta * z
    # Cast to the dtype it has, torch 2.11 gives a compiled autograd function around this wrong gradients.
    return y if y.dtype == x.dtype else y.to(x.dtype)


def polyrelu(x: Tensor, coefficients: Tensor, bias: Tensor | None) -> Tensor:
    """PolyReLU, bias + sum_p a_p max(x, 0)^p (paper equation 2, type I with ReLU)."""
    return _powers(x, F.relu(x.to(accumulation_dtype(x))), coefficients, bias)


def polyprelu(x: Tensor, coefficients: Tensor, bias: Tensor | None, slope: Tensor) -> Tensor:
    """PolyPReLU, bias + sum_p a_p z^p with z = x above 0 and slope x below; `slope` is (1,)."""
    z = x.to(accumulation_dtype(x))
    return _powers(x, torch.where(z > 0, z, slope.to(z.dtype) * z), coefficients, bias)


def polynorm(x: Tensor, coefficients: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """PolyNorm, bias + sum_p a_p norm(x^p), where norm(u) = u * rsqrt(mean(u^2, last axis) + eps).

    The RMS form of the authors' code and of every published result. The paper's formula writes the L2 norm, which
    is smaller by sqrt(width).
    """
    return _normalised_powers(x, x.to(accumulation_dtype(x)), coefficients, bias, eps)


def polyrelunorm(x: Tensor, coefficients: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """PolyReLUNorm, bias + sum_p a_p norm(max(x, 0)^p), with PolyNorm's norm."""
    return _normalised_powers(x, F.relu(x.to(accumulation_dtype(x))), coefficients, bias, eps)


def _powers(x: Tensor, z: Tensor, coefficients: Tensor, bias: Tensor | None) -> Tensor:
    y = sum(a * z**p for p, a in enumerate(coefficients.to(z.dtype), start=1))
    return (y if bias is None else y + bias.to(z.dtype)).to(x.dtype)


def _normalised_powers(x: Tensor, z: Tensor, coefficients: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    y = 0.0
    for p, a in enumerate(coefficients.to(z.dtype), start=1):
        power = z**p
        y = y + a * power * torch.rsqrt(power.square().mean(-1, keepdim=True) + eps)
    return (y if bias is None else y + bias.to(z.dtype)).to(x.dtype)

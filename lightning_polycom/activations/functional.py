"""Eager reference formulas, written as in the paper: the truth that every faster path is tested against.

Shapes: `x` is (..., width); the result has the shape and dtype of `x`. Powers, means and sums are taken in fp32
(fp64 for fp64 input), because bf16 has 8 bits and fp16 overflows at x^6 for |x| > 6.35.
`coefficients[p - 1]` belongs to power p.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def accumulation_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which powers and sums of `x` are taken: fp64 for fp64 input, else fp32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def relu2(x: Tensor) -> Tensor:
    """ReLU squared, max(x, 0)^2 (So et al., 2021)."""
    return F.relu(x).square()


def polyrelu(x: Tensor, coefficients: Tensor, bias: Tensor | None) -> Tensor:
    """PolyReLU, bias + sum_p a_p max(x, 0)^p (paper equation 2, type I with ReLU)."""
    z = F.relu(x.to(accumulation_dtype(x)))
    y = sum(a * z**p for p, a in enumerate(coefficients.to(z.dtype), start=1))
    return (y if bias is None else y + bias.to(z.dtype)).to(x.dtype)


def polynorm(x: Tensor, coefficients: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """PolyNorm, bias + sum_p a_p norm(x^p), where norm(u) = u * rsqrt(mean(u^2, last axis) + eps).

    The RMS form of the authors' code and of every published result. The paper's formula writes the L2 norm, which
    is smaller by sqrt(width).
    """
    z = x.to(accumulation_dtype(x))
    y = 0.0
    for p, a in enumerate(coefficients.to(z.dtype), start=1):
        power = z**p
        y = y + a * power * torch.rsqrt(power.square().mean(-1, keepdim=True) + eps)
    return (y if bias is None else y + bias.to(z.dtype)).to(x.dtype)

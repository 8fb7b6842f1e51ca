"""The formulas operation by operation in the input's dtype, recomputed in backward, as the authors run them."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_polycom.activations import Activation


def polynorm(x: Tensor, coefficients: Tensor, bias: Tensor, eps: float = 1e-6) -> Tensor:
    """PolyNorm, (..., width) -> same shape and dtype; `coefficients` (order,) ascending, `bias` (1,)."""

    def formula(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        powers = [x**p for p in range(1, len(a) + 1)]
        return sum(a[p] * u * torch.rsqrt(u.pow(2).mean(-1, keepdim=True) + eps) for p, u in enumerate(powers)) + b

    return checkpoint(formula, x, coefficients.to(x.dtype), bias.to(x.dtype), use_reentrant=False)


def polyrelu(x: Tensor, coefficients: Tensor, bias: Tensor) -> Tensor:
    """PolyReLU, (..., width) -> same shape and dtype; `coefficients` (order,) ascending, `bias` (1,)."""

    def formula(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return sum(a[p] * torch.relu(x) ** (p + 1) for p in range(len(a))) + b

    return checkpoint(formula, x, coefficients.to(x.dtype), bias.to(x.dtype), use_reentrant=False)


class AuthorsPolyNorm(Activation):
    """PolyNorm of order 3 by the authors' formula, for the contrast inside a decoder."""

    row_normalising = True

    def __init__(self) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.empty(3))
        self.bias = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Coefficients to 1/3, bias to 0."""
        with torch.no_grad():
            self.coefficients.fill_(1 / 3)
            self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same shape and dtype."""
        return polynorm(x, self.coefficients, self.bias)

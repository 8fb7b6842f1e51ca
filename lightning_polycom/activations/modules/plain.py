"""Element-wise activations of one input, without or (xIELU) with trained numbers."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_polycom.activations.functional import floating
from lightning_polycom.activations.kernels.relu import relu
from lightning_polycom.activations.kernels.xielu import XIELUFunction
from lightning_polycom.activations.modules.base import Activation
from lightning_polycom.errors import InputError


class ReLU(Activation):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same shape."""
        return relu(floating(x))


class ReLU2(Activation):
    """max(x, 0)^2."""

    highest_power = 2
    flops_per_element = 4

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same shape."""
        return relu(floating(x)).square()


def known_approximation(approximate: str) -> str:
    """The argument itself.

    Raises:
        InputError: it is neither `none` nor `tanh`.
    """
    if approximate not in ("none", "tanh"):
        raise InputError(f"activation.approximate: found '{approximate}'; give none or tanh")
    return approximate


class GELU(Activation):
    """x Phi(x), the Gaussian error linear unit: exact, or with the tanh approximation of Phi."""

    flops_per_element = 14

    def __init__(self, approximate: Literal["none", "tanh"] = "none"):
        super().__init__()
        self.approximate = known_approximation(approximate)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same shape."""
        return F.gelu(floating(x), approximate=self.approximate)


class SiLU(Activation):
    """x sigmoid(x)."""

    flops_per_element = 10

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same shape."""
        return F.silu(floating(x))


class XIELU(Activation):
    """xIELU (Huang and Schlag, 2025), with its two curvatures trained through a softplus.

    alpha_positive = softplus(raw_alpha_positive) and alpha_negative = beta + softplus(raw_alpha_negative), both 0.8
    at the start; beta, the slope at 0, is fixed at 0.5. The raw parameters are fp32 of shape (1,).
    """

    highest_power = 2
    flops_per_element = 16
    beta = 0.5
    initial_alpha = 0.8

    def __init__(self) -> None:
        super().__init__()
        self.raw_alpha_positive = nn.Parameter(torch.empty(1, dtype=torch.float32))
        self.raw_alpha_negative = nn.Parameter(torch.empty(1, dtype=torch.float32))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Both curvatures to 0.8."""
        with torch.no_grad():
            self.raw_alpha_positive.fill_(math.log(math.expm1(self.initial_alpha)))
            self.raw_alpha_negative.fill_(math.log(math.expm1(self.initial_alpha - self.beta)))

    def alphas(self) -> tuple[Tensor, Tensor]:
        """alpha_positive and alpha_negative as they enter the formula, each (1,)."""
        return F.softplus(self.raw_alpha_positive), self.beta + F.softplus(self.raw_alpha_negative)

    def learned_values(self) -> dict[str, float]:
        """Both curvatures."""
        return dict(zip(("alpha_positive", "alpha_negative"), (a.item() for a in self.alphas()), strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same shape and dtype."""
        return XIELUFunction.apply(floating(x), *self.alphas(), self.beta)

"""Gated linear units: an activation of the gate branch times the up branch (Shazeer, 2020)."""

from typing import Literal

from torch import Tensor

from lightning_polycom.activations.functional import floating
from lightning_polycom.activations.kernels.gated import GatedFunction
from lightning_polycom.activations.modules.base import Activation
from lightning_polycom.activations.modules.plain import known_approximation


class ReGLU(Activation):
    """max(gate, 0) * up."""

    gated = True
    flops_per_element = 5

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        """Two of (..., width) -> same shape."""
        return GatedFunction.apply(floating(gate), floating(up), "relu")


class GeGLU(Activation):
    """gelu(gate) * up, the GELU exact or with the tanh approximation."""

    gated = True
    flops_per_element = 17

    def __init__(self, approximate: Literal["none", "tanh"] = "none"):
        super().__init__()
        self.approximate = known_approximation(approximate)

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        """Two of (..., width) -> same shape."""
        unit = "gelu" if self.approximate == "none" else "gelu_tanh"
        return GatedFunction.apply(floating(gate), floating(up), unit)


class SwiGLU(Activation):
    """silu(gate) * up."""

    gated = True
    flops_per_element = 13

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        """Two of (..., width) -> same shape."""
        return GatedFunction.apply(floating(gate), floating(up), "silu")

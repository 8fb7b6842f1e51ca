"""Gated linear units: an activation of the gate branch times the up branch (Shazeer, 2020)."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from lightning_polycom.activations.functional import floating
from lightning_polycom.activations.kernels.relu import relu
from lightning_polycom.activations.modules.base import Activation
from lightning_polycom.activations.modules.plain import known_approximation


class ReGLU(Activation):
    """max(gate, 0) * up."""

    gated = True
    flops_per_element = 5

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        """Two of (..., width) -> same shape."""
        return relu(floating(gate)) * up


class GeGLU(Activation):
    """gelu(gate) * up, the GELU exact or with the tanh approximation."""

    gated = True
    flops_per_element = 17

    def __init__(self, approximate: Literal["none", "tanh"] = "none"):
        super().__init__()
        self.approximate = known_approximation(approximate)

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        """Two of (..., width) -> same shape."""
        return F.gelu(floating(gate), approximate=self.approximate) * up


class SwiGLU(Activation):
    """silu(gate) * up."""

    gated = True
    flops_per_element = 13

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        """Two of (..., width) -> same shape."""
        return F.silu(floating(gate)) * up

"""Gated units without a polynomial: backward keeps gate and up, and computes the activation of the gate again."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Unit = Literal["relu", "silu", "gelu", "gelu_tanh"]


def _value(gate: Tensor, unit: Unit) -> Tensor:
    if unit == "relu":
        return F.relu(gate)
    if unit == "silu":
        return F.silu(gate)
    return F.gelu(gate, approximate="tanh" if unit == "gelu_tanh" else "none")


def _derivative_times(g: Tensor, gate: Tensor, unit: Unit) -> Tensor:
    if unit == "relu":
        return torch.ops.aten.threshold_backward(g, gate, 0)
    if unit == "silu":
        return torch.ops.aten.silu_backward(g, gate)
    return torch.ops.aten.gelu_backward(g, gate, approximate="tanh" if unit == "gelu_tanh" else "none")


class GatedFunction(torch.autograd.Function):
    """unit(gate) * up."""

    @staticmethod
    def forward(ctx, gate: Tensor, up: Tensor, unit: Unit) -> Tensor:
        """Two of (..., width) -> same shape."""
        ctx.save_for_backward(gate, up)
        ctx.unit = unit
        return _value(gate, unit) * up

    @staticmethod
    def backward(ctx, grad_y: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of gate and up."""
        gate, up = ctx.saved_tensors
        return _derivative_times(grad_y * up, gate, ctx.unit), grad_y * _value(gate, ctx.unit), None

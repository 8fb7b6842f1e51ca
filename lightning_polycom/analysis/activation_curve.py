"""An activation as a curve: its value and derivative over the inputs that a row holds."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_polycom.activations import Activation

POINTS = 4096


class Curve(NamedTuple):
    """Inputs in ascending order, the activation's values there, and its derivative; each (points,), fp64."""

    x: Tensor
    y: Tensor
    derivative: Tensor


def activation_curve(activation: Activation, std: float = 1.0) -> Curve:
    """The curve of an activation over one row whose elements are the quantiles of a normal distribution.

    The derivative is along the curve. So of an activation that normalises rows it is the one at this row's mean
    squares, which a single element does not move. A gated activation is drawn with 1 in the up branch, coefficients
    per channel or expert by their mean.
    """
    activation = copy.deepcopy(activation).double()
    _average_scopes(activation)
    probabilities = (torch.arange(POINTS, dtype=torch.double) + 0.5) / POINTS
    x = std * torch.special.ndtri(probabilities)
    with torch.no_grad():
        y = activation(x, torch.ones_like(x)) if activation.gated else activation(x)
    return Curve(x, y, torch.gradient(y, spacing=(x,))[0])


def _average_scopes(activation: Activation) -> None:
    """Turns coefficients per channel or per expert into their mean, in place."""
    coefficients, bias = (getattr(activation, name, None) for name in ("coefficients", "bias"))
    if isinstance(coefficients, nn.Parameter) and coefficients.ndim == 2:
        activation.coefficients, activation.per_expert = nn.Parameter(coefficients.detach().mean(1)), False
        if bias is not None:
            activation.bias = nn.Parameter(bias.detach().mean(0, keepdim=True))

"""An activation as a curve: its value and derivative over the inputs that a row holds."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_polycom.activations import Activation, PolynomialActivation

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
    """Turns coefficients per channel or per expert into the mean of what enters the formula, in place."""
    if not (isinstance(activation, PolynomialActivation) and activation.coefficients.ndim == 2):
        return
    coefficients, bias = activation.effective_coefficients().detach(), activation.effective_bias()
    activation.coefficients = nn.Parameter(coefficients.mean(1))
    activation.bias = None if bias is None else nn.Parameter(bias.detach().mean(0, keepdim=True))
    activation.sigmoid, activation.bias_limit, activation.output_scale = False, None, 1.0
    activation.per_expert = False

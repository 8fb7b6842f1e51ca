"""Calls of the Triton operator with a module's numbers, wherever the tensors lie."""

import torch
from torch import Tensor

from lightning_polycom.activations import PolynomialActivation
from lightning_polycom.activations.kernels.experts import expert_of_row


def on_triton(module: PolynomialActivation, *x: Tensor, offsets: Tensor | None = None) -> Tensor:
    """What `module` computes on a GPU: its value by the Triton kernels."""
    from lightning_polycom.activations.kernels.triton_operators import polynomial_forward

    gate, up = x if module.gated else (*x, None)
    eps = module.eps if module.row_normalising else None
    experts = None if offsets is None else expert_of_row(offsets, gate.shape[:-1].numel())
    numbers = (module.effective_coefficients(), module.effective_bias(), module.slope)
    return polynomial_forward(gate, up, *numbers, experts, offsets, module.base, eps)[0]


def value_and_gradients(function, x: list[Tensor], parameters: list[Tensor], g: Tensor) -> list[Tensor]:
    """y, then the gradients of the inputs and of the parameters for dL/dy = g."""
    y = function(*x)
    return [y, *torch.autograd.grad(y, (*x, *parameters), g)]


def relative_error(found: Tensor, true: Tensor) -> float:
    """Norm of the difference over the norm."""
    return ((found.double() - true).norm() / true.norm()).item()

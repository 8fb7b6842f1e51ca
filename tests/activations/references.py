"""The reference formula and random coefficients of every polynomial activation, for the tests of this room."""

import torch
from torch import Tensor

from lightning_polycom.activations import PolynomialActivation, build_activation, functional

POLYNOMIALS = ["polyrelu", "polynorm", "polyprelu", "polyrelunorm", "polynorm_glu", "polyrelu_glu"]


def reference(name: str, module: PolynomialActivation, x: Tensor, up: Tensor | None = None) -> Tensor:
    """The plain formula with the module's effective coefficients."""
    formula = getattr(functional, name.removesuffix("_glu"))
    arguments = [module.effective_coefficients(), module.effective_bias()]
    if module.row_normalising:
        arguments.append(module.eps)
    if module.slope is not None:
        arguments.append(module.slope)
    y = formula(x, *arguments)
    return y if up is None else y * up


def randomised(name: str, width: int | None = None, **options) -> PolynomialActivation:
    """A module whose parameters are drawn from a standard normal."""
    module = build_activation(name, width=width, **options)
    torch.manual_seed(module.order)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


def inputs(module: PolynomialActivation, shape: tuple[int, ...], dtype: torch.dtype = torch.double) -> list[Tensor]:
    """One standard normal input, or gate and up, that require gradients."""
    return [torch.randn(shape).to(dtype).requires_grad_() for _ in range(2 if module.gated else 1)]

"""The ways to compute one activation that a benchmark compares; all give the same function."""

import importlib
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_polycom.activations import ACTIVATIONS, Activation, PolynomialActivation, functional
from lightning_polycom.activations.modules.polynorm import PolyNorm
from lightning_polycom.activations.modules.polyrelu import PolyReLU
from lightning_polycom.benchmarking import authors_formula


class Way(NamedTuple):
    """One way: `run` takes x, or gate and up, (..., width), and returns their shape.

    `trained` are the tensors whose gradients backward must give besides the inputs'.
    """

    run: Callable[..., Tensor]
    trained: list[Tensor]


class Unavailable(Exception):
    """The way cannot be had here; the message says why."""


def way_of(key: str, module: Activation) -> Way | None:
    """The way `key` of options.WAYS to compute `module`, with its coefficients; None if it does not apply to it.

    Raises:
        Unavailable: a package that the way needs is missing, or is for other devices.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if key.startswith("module"):
        return Way(torch.compile(module, dynamic=False) if key == "module_compiled" else module, trained)
    if not (isinstance(module, PolynomialActivation) and type(module) in ACTIVATIONS.values()):
        return None  # another's formula is not known
    if key.startswith("reference"):
        run = _gated(_reference(module))
        return Way(torch.compile(run, dynamic=False) if key == "reference_compiled" else run, trained)
    if key == "authors":
        formula = _authors(module)
        return None if formula is None else Way(_gated(formula), trained)
    return _liger(module)


def _reference(module: PolynomialActivation) -> Callable[[Tensor], Tensor]:
    """The plain formula of `activations.functional`, of the gate if the module is gated."""
    kind = next(c for c in type(module).__mro__ if hasattr(functional, c.__name__.lower()))
    formula = getattr(functional, kind.__name__.lower())
    norm = (module.eps,) if module.row_normalising else ()
    slope = () if module.slope is None else (module.slope,)

    def run(x: Tensor) -> Tensor:
        return formula(x, module.effective_coefficients(), module.effective_bias(), *norm, *slope)

    return run


def _authors(module: PolynomialActivation) -> Callable[[Tensor], Tensor] | None:
    """The authors' formula; they have one for PolyNorm and PolyReLU."""
    if isinstance(module, PolyNorm) and module.base == "identity":
        return lambda x: authors_formula.polynorm(x, module.coefficients, module.bias, module.eps)
    if isinstance(module, PolyReLU):
        return lambda x: authors_formula.polyrelu(x, module.coefficients, module.bias)
    return None


def _liger(module: PolynomialActivation) -> Way | None:
    """Liger-Kernel's PolyNorm with the module's coefficients, which it stores in descending powers."""
    if not isinstance(module, PolyNorm) or module.base != "identity" or module.gated or module.order != 3:
        return None
    if not next(module.parameters()).is_cuda:
        raise Unavailable("it runs on a GPU only")
    try:
        found = importlib.import_module("liger_kernel.transformers.poly_norm").LigerPolyNorm
        # In place it would overwrite the incoming gradient, which is the same tensor in every repetition.
        liger = found(eps=module.eps, in_place=False).to(module.coefficients.device)
    except (ImportError, AttributeError, TypeError) as error:  # not there, or older than the option
        raise Unavailable(f"{error}; pip install 'lightning-polycom[benchmark]'") from error
    with torch.no_grad():
        liger.weight.copy_(module.coefficients.flip(0))
        liger.bias.copy_(module.bias.squeeze(0))
    return Way(liger, [liger.weight, liger.bias])


def _gated(run: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """`run` of the first input, times the second if there is one."""
    return lambda x, up=None: run(x) if up is None else run(x) * up

"""Chooses how a polynomial activation is computed: the one entrance to this room."""

from importlib.util import find_spec

import torch
from torch import Tensor

from lightning_polycom.activations.functional import floating
from lightning_polycom.activations.kernels.experts import expert_of_row
from lightning_polycom.activations.kernels.polynomial import PolynomialFunction
from lightning_polycom.activations.kernels.row_formulas import Base

HAS_TRITON = find_spec("triton") is not None
TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def polynomial(
    x: Tensor,
    up: Tensor | None,
    coefficients: Tensor,
    bias: Tensor | None,
    slope: Tensor | None,
    base: Base,
    eps: float | None,
    offsets: Tensor | None = None,
) -> Tensor:
    """(bias + sum_p a_p r_p base(x)^p) * up, shaped like `x`; arguments as in `PolynomialFunction.forward`.

    Triton kernels on a GPU, plain torch elsewhere. Also plain torch: fp64, and coefficients of channels, whose
    gradients are sums down the columns, which torch.compile does well.

    Raises:
        InputError: `x` holds no floating-point numbers.
    """
    if not runs_on_triton(floating(x), coefficients, offsets):
        return PolynomialFunction.apply(x, up, coefficients, bias, slope, offsets, base, eps)
    # Triton is imported where there is a GPU to use it on.
    from lightning_polycom.activations.kernels.triton_operators import polynomial_forward

    experts = None if offsets is None else expert_of_row(offsets, x.shape[:-1].numel())
    return polynomial_forward(x, up, coefficients, bias, slope, experts, offsets, base, eps)[0]


def runs_on_triton(x: Tensor, coefficients: Tensor, offsets: Tensor | None) -> bool:
    """Whether `polynomial` takes the Triton kernels for this input."""
    by_channel = coefficients.ndim == 2 and offsets is None
    return x.device.type == "cuda" and HAS_TRITON and x.dtype in TRITON_DTYPES and not by_channel

"""The activations as modules with declared traits; the registry gives them their names.

A module is called with the up-projection's output (..., width), or, if `gated`, with the gate's and the
up-projection's output, and returns the same shape.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_polycom.activations import functional
from lightning_polycom.activations.kernels.polynorm import PolyNormFunction
from lightning_polycom.activations.kernels.polyrelu import PolyReLUFunction
from lightning_polycom.errors import InputError

ORDERS = range(1, 5)


class Activation(nn.Module):
    """Base of all activations: the traits that the model and the cost accounting read."""

    gated: ClassVar[bool] = False
    row_normalising: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()

    def reset_parameters(self) -> None:
        """Sets trainable coefficients to their initial values; nothing to do for most."""


class ReLU(Activation):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same shape."""
        return F.relu(x)


class ReLU2(Activation):
    """max(x, 0)^2."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same shape."""
        return functional.relu2(x)


class GELU(Activation):
    """x Phi(x), the exact Gaussian error linear unit."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same shape."""
        return F.gelu(x)


class SiLU(Activation):
    """x sigmoid(x)."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same shape."""
        return F.silu(x)


class SwiGLU(Activation):
    """silu(gate) * up (Shazeer, 2020)."""

    gated = True

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        """Two of (..., width) -> same shape."""
        return F.silu(gate) * up


class GeGLU(Activation):
    """gelu(gate) * up (Shazeer, 2020)."""

    gated = True

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        """Two of (..., width) -> same shape."""
        return F.gelu(gate) * up


class PolynomialActivation(Activation):
    """Holds the trainable coefficients: one set per layer, shared by all channels and tokens (paper section 2).

    `coefficients` has shape (order,), ascending, unlike the authors' files; `bias` has shape (1,) or is None. Both
    are one-dimensional because FSDP2 shards no 0-dimensional parameter, and fp32 because 1/3 in bf16 is off by 0.2%.

    Raises:
        InputError: order outside 1 to 4, or a number of initial coefficients other than the order.
    """

    def __init__(self, order: int = 3, coefficients: tuple[float, ...] | None = None, bias: bool = True):
        super().__init__()
        if order not in ORDERS:
            raise InputError(f"activation.order: found {order}; the polynomial orders are 1 to 4")
        if coefficients is not None and len(coefficients) != order:
            raise InputError(
                f"activation.coefficients: found {len(coefficients)} values for order {order}; "
                f"give {order}, ascending from the linear one"
            )
        self.initial_coefficients = tuple(coefficients or (1 / order,) * order)
        self.coefficients = nn.Parameter(torch.empty(order, dtype=torch.float32))
        self.bias = nn.Parameter(torch.empty(1, dtype=torch.float32)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Coefficients to their initial values (1/order by default), bias to 0."""
        with torch.no_grad():
            self.coefficients.copy_(torch.tensor(self.initial_coefficients))
            if self.bias is not None:
                self.bias.zero_()

    def extra_repr(self) -> str:
        """Shows the order and whether there is a bias."""
        return f"order={self.coefficients.numel()}, bias={self.bias is not None}"


class PolyReLU(PolynomialActivation):
    """bias + sum_p a_p max(x, 0)^p."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same shape and dtype."""
        if torch.compiler.is_compiling():  # the compiler fuses the plain formula better than a chunked loop
            return functional.polyrelu(x, self.coefficients, self.bias)
        return PolyReLUFunction.apply(x, self.coefficients, self.bias)


class PolyNorm(PolynomialActivation):
    """bias + sum_p a_p x^p / rms(x^p), the mean over the last axis."""

    row_normalising = True

    def __init__(
        self,
        order: int = 3,
        coefficients: tuple[float, ...] | None = None,
        bias: bool = True,
        eps: float = 1e-6,
    ):
        super().__init__(order, coefficients, bias)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same shape and dtype."""
        if torch.compiler.is_compiling():  # the compiler fuses the plain formula better than a chunked loop
            return functional.polynorm(x, self.coefficients, self.bias, self.eps)
        return PolyNormFunction.apply(x, self.coefficients, self.bias, self.eps)

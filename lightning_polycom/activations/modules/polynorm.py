"""Normalised powers: the members that read a whole row (type II of the paper)."""

import math

from lightning_polycom.activations.modules.polynomial import PolynomialActivation
from lightning_polycom.errors import InputError


class PolyNorm(PolynomialActivation):
    """bias + sum_p a_p x^p / rms(x^p), the mean over the last axis.

    Args:
        eps: Added to the mean square inside the root.
        **options: See PolynomialActivation.
    """

    row_normalising = True

    def __init__(self, eps: float = 1e-6, **options):
        super().__init__(**options)
        if not 0 <= eps < math.inf:
            raise InputError(f"activation.eps: found {eps}; it must be 0 or more")
        self.eps = eps


class PolyReLUNorm(PolyNorm):
    """bias + sum_p a_p z^p / rms(z^p) with z = max(x, 0)."""

    base = "relu"


class PolyNormGLU(PolyNorm):
    """PolyNorm(gate) * up."""

    gated = True

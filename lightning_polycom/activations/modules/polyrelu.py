"""Polynomials of ReLU and PReLU: the element-wise members (type I of the paper)."""

from lightning_polycom.activations.modules.polynomial import PolynomialActivation


class PolyReLU(PolynomialActivation):
    """bias + sum_p a_p max(x, 0)^p."""

    base = "relu"


class PolyPReLU(PolynomialActivation):
    """bias + sum_p a_p z^p, where z is x above 0 and slope x below; the slope is trained and starts at 0.25."""

    base = "prelu"


class PolyReLUGLU(PolyReLU):
    """PolyReLU(gate) * up."""

    gated = True

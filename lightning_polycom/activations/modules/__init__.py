"""The activations as modules with declared traits; the registry gives them their names."""

from lightning_polycom.activations.modules.base import Activation
from lightning_polycom.activations.modules.polynomial import PolynomialActivation

__all__ = ["Activation", "PolynomialActivation"]

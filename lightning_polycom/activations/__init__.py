"""Every activation the project compares, behind one registry; imports torch and nothing above it."""

from lightning_polycom.activations.config import ActivationConfig
from lightning_polycom.activations.modules import Activation, PolynomialActivation
from lightning_polycom.activations.registry import ACTIVATIONS, activation_class, build_activation

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "ActivationConfig",
    "PolynomialActivation",
    "activation_class",
    "build_activation",
]

"""Mixtures of experts: a router, experts that share one activation, grouped matrix products; no token is dropped."""

from lightning_polycom.model.mixture_of_experts.config import MixtureOfExpertsConfig
from lightning_polycom.model.mixture_of_experts.routing import Router, Routing

__all__ = ["MixtureOfExpertsConfig", "Router", "Routing"]

"""The optimizer and its parameter groups."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from lightning_polycom.errors import InputError


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW as in the paper's dense runs.

    Args:
        learning_rate: Peak learning rate.
        betas: Decay rates of the two moments.
        eps: Added to the root of the second moment.
        weight_decay: On matrices only; norms, biases and activation coefficients are exempt.

    Raises:
        InputError: a value that AdamW cannot use.
    """

    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        for name in ("learning_rate", "eps", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"optimizer.{name}: found {getattr(self, name)}; it must be 0 or more")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"optimizer.betas: found {list(self.betas)}; both must be in [0, 1)")


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups: matrices with weight decay, one-dimensional parameters (norms, coefficients, biases) without."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def build_optimizer(config: OptimizerConfig, module: nn.Module) -> torch.optim.AdamW:
    """Fused AdamW over the module's two parameter groups."""
    groups = parameter_groups(module, config.weight_decay)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)

"""The optimizer and its parameter groups."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from lightning_polycom.activations import Activation
from lightning_polycom.errors import InputError
from lightning_polycom.model.normalization import RMSNorm


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW as in the paper's dense runs.

    Args:
        learning_rate: Peak learning rate.
        betas: Decay rates of the two moments.
        eps: Added to the root of the second moment.
        weight_decay: On matrices only; activation coefficients are always exempt.
        decay_norms: Weight decay on the norms' gains too, as in OLMoE.

    Raises:
        InputError: a value that AdamW cannot use.
    """

    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    decay_norms: bool = False

    def __post_init__(self) -> None:
        for name in ("learning_rate", "eps", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"optimizer.{name}: found {getattr(self, name)}; it must be 0 or more")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"optimizer.betas: found {list(self.betas)}; both must be in [0, 1)")


def parameter_groups(module: nn.Module, weight_decay: float, decay_norms: bool = False) -> list[dict]:
    """Matrices with weight decay; one-dimensional parameters and the activations' own, of any shape, without.

    With `decay_norms` the gains of norms have it too.

    A third group, with the key `learning_rate_multiplier`, for each multiplier that activations ask for besides 1.
    """
    multipliers = activation_multipliers(module)
    trained = [p for p in module.parameters() if p.requires_grad]
    ordinary = [p for p in trained if multipliers.get(id(p), 1.0) == 1.0]
    gains = {id(m.weight) for m in module.modules() if decay_norms and isinstance(m, RMSNorm)}
    decayed = [p for p in ordinary if (p.ndim >= 2 and id(p) not in multipliers) or id(p) in gains]
    taken = {id(p) for p in decayed}
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": [p for p in ordinary if id(p) not in taken], "weight_decay": 0.0},
    ]
    for multiplier in sorted(set(multipliers.values()) - {1.0}):
        parameters = [p for p in trained if multipliers.get(id(p)) == multiplier]
        if parameters:
            groups.append({"params": parameters, "weight_decay": 0.0, "learning_rate_multiplier": multiplier})
    return groups


def activation_multipliers(module: nn.Module) -> dict[int, float]:
    """The learning-rate multiplier of every parameter of every activation in `module`, by the parameter's id."""
    activations = [m for m in module.modules() if isinstance(m, Activation)]
    return {id(p): activation.learning_rate_multiplier for activation in activations for p in activation.parameters()}


def build_optimizer(config: OptimizerConfig, module: nn.Module) -> torch.optim.AdamW:
    """Fused AdamW over the module's parameter groups; a schedule that scales each group keeps their ratio."""
    groups = parameter_groups(module, config.weight_decay, config.decay_norms)
    for group in groups:
        group["lr"] = config.learning_rate * group.get("learning_rate_multiplier", 1.0)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)

"""Balancing the experts of a sparse decoder while it trains."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_polycom.errors import InputError
from lightning_polycom.model import Decoder
from lightning_polycom.model.mixture_of_experts import Router, Routing
from lightning_polycom.model.mixture_of_experts.balance import (
    load_balance_loss,
    move_selection_bias,
    router_z_loss,
    stack,
)


@dataclass(frozen=True)
class BalancingConfig:
    """What keeps experts equally busy; without effect on a dense decoder.

    Args:
        load_balance_loss_weight: Weight of num_experts * sum of (share of tokens * mean probability), averaged over
            layers; it is experts_per_token where the load is even. OLMoE's trainer divides by experts_per_token: its
            0.01 is 0.01 / experts_per_token here.
        pool_layers: Averages shares and probabilities over layers before they are multiplied, as transformers does.
            Layers that are uneven in opposite ways then look even.
        router_z_loss_weight: Weight of mean log(Z)^2 of the router's logits, averaged over layers.
        selection_bias_rate: By how much a step moves each expert's selection bias, where the decoder has one.

    Raises:
        InputError: a weight below 0, or not finite.
    """

    load_balance_loss_weight: float = 0.01
    pool_layers: bool = False
    router_z_loss_weight: float = 0.001
    selection_bias_rate: float = 0.001

    def __post_init__(self) -> None:
        for name in ("load_balance_loss_weight", "router_z_loss_weight", "selection_bias_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"balancing.{name}: found {getattr(self, name)}; it must be 0 or more")


class StepRouting:
    """What the routers did in the optimizer step in progress.

    `tokens_per_expert` (layers, num_experts) counts over all ranks and micro-batches; `entropy` (layers,) is the sum
    over this rank's tokens; `sums` are this rank's shares of load-balance loss and router z-loss, unweighted.
    """

    def __init__(self, config: BalancingConfig):
        self.config = config
        self.tokens_per_expert = self.entropy = self.sums = None

    def loss(
        self, routings: Sequence[Routing], num_tokens: int, num_ranks: int, add_ranks: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """This rank's share of a micro-batch's weighted losses, to be summed over ranks.

        The load is that of the micro-batches of all ranks together, `num_tokens` on each of `num_ranks`, so that the
        loss does not depend on how sequences are spread over ranks. `add_ranks` sums a tensor over them.
        """
        routing = stack(routings)
        tokens_per_expert = add_ranks(routing.tokens_per_expert)
        num_tokens *= num_ranks
        balance = load_balance_loss(tokens_per_expert, routing.probabilities, num_tokens, self.config.pool_layers)
        z_loss = router_z_loss(routing.squared_log_normalizer, num_tokens)
        self._add(tokens_per_expert, routing.entropy, torch.stack([balance, z_loss]).detach())
        return self.config.load_balance_loss_weight * balance + self.config.router_z_loss_weight * z_loss

    def move_biases(self, decoder: Decoder, skipped: Tensor) -> None:
        """Moves the selection biases, where there are any, by the step's load; `skipped` is 1 to leave them, else 0."""
        routers = [module for module in decoder.modules() if isinstance(module, Router)]
        rate = self.config.selection_bias_rate * (1 - skipped)
        for router, tokens_per_expert in zip(routers, self.tokens_per_expert, strict=True):
            if router.selection_bias is not None:
                move_selection_bias(router.selection_bias, tokens_per_expert, rate)

    def _add(self, tokens_per_expert: Tensor, entropy: Tensor, sums: Tensor) -> None:
        if self.sums is None:
            self.tokens_per_expert, self.entropy, self.sums = tokens_per_expert, entropy, sums
        else:
            self.tokens_per_expert = self.tokens_per_expert + tokens_per_expert
            self.entropy, self.sums = self.entropy + entropy, self.sums + sums

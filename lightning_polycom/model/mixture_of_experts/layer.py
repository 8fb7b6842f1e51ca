"""The feed-forward layer of a sparse decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_polycom.activations import ACTIVATIONS
from lightning_polycom.model.feed_forward import FeedForward
from lightning_polycom.model.mixture_of_experts.grouped_product import grouped_linear
from lightning_polycom.model.mixture_of_experts.permutation import sort_by_expert, to_experts, to_tokens
from lightning_polycom.model.mixture_of_experts.routing import Router, Routing, matrices

if TYPE_CHECKING:
    from lightning_polycom.model.config import DecoderConfig


class MixtureOfExperts(nn.Module):
    """sum over a token's experts of weight * down(activation(up(x))), or its gated form; no biases, nothing dropped.

    All experts share one activation module, as in the paper; it is called on the rows of all experts at once, so that
    PolyNorm normalises over all hidden units of one token in one expert. With the activation's scope `expert` each
    expert has coefficients of its own. The matrices of all experts are one parameter each, (num_experts, out, in).

    With `recompute_activation` backward computes the experts' down-projection again too, unlike a dense one's: the
    operator keeps its inputs when it has run.
    """

    def __init__(self, config: DecoderConfig):
        super().__init__()
        mixture, size = config.mixture_of_experts, config.feed_forward_size
        self.new_activation = config.build_activation
        self.activation = self.new_activation()
        self.recompute_activation = config.recompute_activation
        self.may_be_random = type(self.activation) not in ACTIVATIONS.values()  # as in FeedForward
        self.router = Router(config.hidden_size, mixture)
        into = (mixture.num_experts, size, config.hidden_size)
        self.gate = matrices(*into) if self.activation.gated else None
        self.up = matrices(*into)
        self.down = matrices(mixture.num_experts, config.hidden_size, size)
        self.shared = None
        if mixture.shared_intermediate_size:
            self.shared = FeedForward(config, mixture.shared_intermediate_size)

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        """(..., hidden_size) -> the same shape, and what the router did."""
        tokens = x.flatten(0, -2)
        experts, weights, routing = self.router(tokens)
        permutation = sort_by_expert(experts, routing.tokens_per_expert)
        rows = to_experts(tokens, permutation)
        y = to_tokens(self._experts(rows, permutation.offsets), weights, permutation).view(x.shape)
        return y if self.shared is None else y + self.shared(x), routing

    def _experts(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """(rows, hidden_size), sorted by expert -> the experts' outputs, same shape."""
        into = (self.up,) if self.gate is None else (self.gate, self.up)
        branches = [grouped_linear(rows, weight, offsets) for weight in into]
        if self.recompute_activation and torch.is_grad_enabled():
            return checkpoint(
                self._output, offsets, *branches, use_reentrant=False, preserve_rng_state=self.may_be_random
            )
        return self._output(offsets, *branches)

    def _output(self, offsets: Tensor, *branches: Tensor) -> Tensor:
        options = {"offsets": offsets} if self.activation.per_expert else {}
        return grouped_linear(self.activation(*branches, **options), self.down, offsets)

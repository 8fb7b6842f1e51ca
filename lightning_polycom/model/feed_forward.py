"""The feed-forward layer around any activation of the registry."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_polycom.activations import ACTIVATIONS, build_activation
from lightning_polycom.model.config import DecoderConfig


class FeedForward(nn.Module):
    """down(activation(up(x))), or down(activation(gate(x), up(x))) for a gated activation; no biases.

    With `recompute_activation` the activation's output is not kept for the down-projection's weight gradient but
    computed again in backward; the down-projection itself is not.

    Args:
        config: The decoder's shape.
        shared_size: Width, as of two matrices, of a mixture's shared expert; it makes this one.
    """

    def __init__(self, config: DecoderConfig, shared_size: int | None = None):
        super().__init__()
        size, activation = config.feed_forward_size, config.activation
        if shared_size is not None:
            size, activation = config.gated_width(shared_size), config.shared_activation
        self.new_activation = partial(build_activation, activation, width=size)
        self.activation = self.new_activation()
        self.recompute_activation = config.recompute_activation
        # Those of the registry draw nothing; a user's own has to draw the same again.
        self.may_be_random = type(self.activation) not in ACTIVATIONS.values()
        if self.activation.gated:
            self.gate = nn.Linear(config.hidden_size, size, bias=False)
        self.up = nn.Linear(config.hidden_size, size, bias=False)
        self.down = nn.Linear(size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., hidden_size) -> same shape."""
        branches = (self.gate(x), self.up(x)) if self.activation.gated else (self.up(x),)
        if self.recompute_activation and torch.is_grad_enabled():
            # The recomputation stops as soon as the last kept tensor is back, which is before the product is formed.
            return checkpoint(self._output, *branches, use_reentrant=False, preserve_rng_state=self.may_be_random)
        return self._output(*branches)

    def _output(self, *branches: Tensor) -> Tensor:
        return self.down(self.activation(*branches))

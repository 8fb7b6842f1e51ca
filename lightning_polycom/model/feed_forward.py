"""The feed-forward layer around any activation of the registry."""

from torch import Tensor, nn

from lightning_polycom.activations import build_activation
from lightning_polycom.model.config import DecoderConfig


class FeedForward(nn.Module):
    """down(activation(up(x))), or down(activation(gate(x), up(x))) for a gated activation; no biases."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        size = config.feed_forward_size
        self.activation = build_activation(config.activation)
        if self.activation.gated:
            self.gate = nn.Linear(config.hidden_size, size, bias=False)
        self.up = nn.Linear(config.hidden_size, size, bias=False)
        self.down = nn.Linear(size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., hidden_size) -> same shape."""
        if self.activation.gated:
            return self.down(self.activation(self.gate(x), self.up(x)))
        return self.down(self.activation(self.up(x)))

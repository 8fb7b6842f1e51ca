"""A decoder as one would write it by hand in plain PyTorch, in one screen: the yardstick that knows nothing of ours."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlainBlock(nn.Module):
    """Pre-norm attention with rotary positions and a SwiGLU feed-forward; fused projections, no biases."""

    def __init__(self, width: int, num_heads: int, feed_forward: int, eps: float):
        super().__init__()
        self.num_heads = num_heads
        self.norm_1, self.norm_2 = nn.RMSNorm(width, eps), nn.RMSNorm(width, eps)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * feed_forward, bias=False)
        self.down = nn.Linear(feed_forward, width, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """(batch, sequence, width) -> same shape."""
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in self.qkv(self.norm_1(x)).chunk(3, -1))
        q, k = _rotated(q, cosine, sine), _rotated(k, cosine, sine)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attention_out(attended.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.norm_2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class PlainDecoder(nn.Module):
    """Returns the mean next-token loss of (batch, sequence) ids and labels; the rotary table is a buffer."""

    def __init__(
        self, vocabulary: int, width: int, num_layers: int, num_heads: int, feed_forward: int, sequence: int, eps: float
    ):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(PlainBlock(width, num_heads, feed_forward, eps) for _ in range(num_layers))
        self.norm = nn.RMSNorm(width, eps)
        self.head = nn.Linear(width, vocabulary, bias=False)
        half = width // num_heads // 2
        angles = torch.outer(torch.arange(sequence), 10000 ** (-torch.arange(half) / half)).repeat(1, 2)
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, input_ids: Tensor, labels: Tensor) -> Tensor:
        """Scalar, in nats."""
        x = self.embedding(input_ids)
        for block in self.blocks:
            x = block(x, self.cosine, self.sine)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), labels.flatten())


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return (x * cosine + torch.cat([-second, first], dim=-1) * sine).to(x.dtype)

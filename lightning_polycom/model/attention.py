"""Causal self-attention with rotary positions, optional grouped-query heads and QK-norm."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_polycom.model.config import DecoderConfig
from lightning_polycom.model.document_attention import Documents, attend
from lightning_polycom.model.normalization import RMSNorm
from lightning_polycom.model.rotary import rotate

Recall = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Rotated queries, keys and values (batch, heads, sequence, head_size) -> the queries' attention, of their shape."""


class Attention(nn.Module):
    """Multi-head causal attention by `scaled_dot_product_attention`; no biases."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.head_size, self.qk_norm = config.head_size, config.qk_norm
        key_value_size = config.key_value_heads * config.head_size
        self.query = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.key = nn.Linear(config.hidden_size, key_value_size, bias=False)
        self.value = nn.Linear(config.hidden_size, key_value_size, bias=False)
        self.output = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        if config.qk_norm != "none":
            over_head = config.qk_norm == "head"
            self.query_norm = RMSNorm(config.head_size if over_head else config.hidden_size, config.norm_eps)
            self.key_norm = RMSNorm(config.head_size if over_head else key_value_size, config.norm_eps)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        documents: Documents | None = None,
        recall: Recall | None = None,
    ) -> Tensor:
        """(batch, sequence, hidden_size) and the rotary table -> (batch, sequence, hidden_size).

        With `documents` no token attends to another document; with `recall` that attends, to tokens read earlier too.
        """
        query, key, value = self._project(x)
        if self.qk_norm == "width":
            query, key = self.query_norm(query), self.key_norm(key)
        query, key, value = (self._heads(t) for t in (query, key, value))
        if self.qk_norm == "head":
            query, key = self.query_norm(query), self.key_norm(key)
        query, key = rotate(query, rotary), rotate(key, rotary)
        if recall is not None:
            attended = recall(query, key, value)
        elif documents is None:
            grouped = key.shape[1] != query.shape[1]
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
        else:
            attended = attend(query, key, value, documents)
        return self.output(attended.transpose(1, 2).flatten(2))

    def _project(self, x: Tensor) -> tuple[Tensor, ...]:
        """Query, key and value of every head side by side, (batch, sequence, heads * head_size) each.

        Compiled, one product is made of the three, which is faster, and the weights are put together beside their cast
        to its dtype; eagerly that costs more than it saves.
        """
        layers = (self.query, self.key, self.value)
        if not torch.compiler.is_compiling():
            return tuple(layer(x) for layer in layers)
        together = F.linear(x, torch.cat([layer.weight for layer in layers]))
        return together.split([layer.out_features for layer in layers], dim=-1)

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, sequence, heads * head_size) -> (batch, heads, sequence, head_size)."""
        return x.unflatten(-1, (-1, self.head_size)).transpose(1, 2)

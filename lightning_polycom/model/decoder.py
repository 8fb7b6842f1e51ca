"""The decoder: embedding, pre-norm blocks, final norm, output head."""

import torch
from torch import Tensor, nn

from lightning_polycom.model.attention import Attention
from lightning_polycom.model.config import DecoderConfig
from lightning_polycom.model.document_attention import Documents, prepare
from lightning_polycom.model.feed_forward import FeedForward
from lightning_polycom.model.linear_cross_entropy import linear_cross_entropy
from lightning_polycom.model.loss import LossSums
from lightning_polycom.model.normalization import RMSNorm
from lightning_polycom.model.rotary import rotary_table


class Block(nn.Module):
    """One pre-norm block: attention, then feed-forward, each added to the residual stream."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.attention = Attention(config)
        self.feed_forward_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], documents: Documents | None = None) -> Tensor:
        """(batch, sequence, hidden_size) -> same shape; with `documents` no token attends to another document."""
        x = x + self.attention(self.attention_norm(x), rotary, documents)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Decoder(nn.Module):
    """A Llama-style causal language model.

    Its weights are torch's own defaults, or nothing on the meta device, until `initialization.initialize` fills them
    as the paper does.
    """

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.tie_embeddings()

    def tie_embeddings(self) -> None:
        """Makes the head share the embedding's matrix, if the config says so; again after `to_empty`."""
        if self.config.tie_embeddings:
            self.head.weight = self.embedding.weight

    def hidden_states(self, input_ids: Tensor, positions: Tensor | None = None) -> Tensor:
        """(batch, sequence) int64 -> the normalised last hidden states (batch, sequence, hidden_size).

        `positions` (batch, sequence), integers, count from 0 in each document of a row; no token then attends to
        another document. Without them a row is one document.
        """
        documents = None
        if positions is None:
            counted = torch.arange(input_ids.shape[1], device=input_ids.device)
        else:
            documents = prepare(positions, self.config.head_size)
            counted = positions[:, None]  # the same for all heads
        rotary = rotary_table(counted, self.config.head_size, self.config.rope_theta)
        x = self.embedding(input_ids)
        for block in self.blocks:
            x = block(x, rotary, documents)
        return self.norm(x)

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor | None = None,
        labels: Tensor | None = None,
        z_loss_weight: float = 0.0,
    ) -> Tensor | LossSums:
        """(batch, sequence) int64 -> logits (batch, sequence, vocab_size); `positions` as in `hidden_states`.

        With `labels` (batch, sequence), their loss instead, as `linear_cross_entropy` computes it. It is a part of
        this forward, because the head's weight may be whole in here only, where weights are sharded over ranks.
        """
        hidden = self.hidden_states(input_ids, positions)
        if labels is None:
            return self.head(hidden)
        return linear_cross_entropy(hidden, self.head.weight, labels, z_loss_weight)

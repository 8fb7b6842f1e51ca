"""The decoder: embedding, pre-norm blocks, final norm, output head."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_polycom.model.attention import Attention, Recall
from lightning_polycom.model.branches import Branches
from lightning_polycom.model.config import DecoderConfig
from lightning_polycom.model.document_attention import Documents, prepare
from lightning_polycom.model.feed_forward import FeedForward
from lightning_polycom.model.key_value_cache import KeyValueCache
from lightning_polycom.model.mixture_of_experts import Routing
from lightning_polycom.model.mixture_of_experts.layer import MixtureOfExperts
from lightning_polycom.model.normalization import RMSNorm
from lightning_polycom.model.rotary import rotary_table


class Block(nn.Module):
    """One pre-norm block: attention, then feed-forward or experts, each added to the residual stream."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.attention = Attention(config)
        self.feed_forward_norm = RMSNorm(config.hidden_size, config.norm_eps)
        sparse = config.mixture_of_experts is not None
        self.feed_forward = MixtureOfExperts(config) if sparse else FeedForward(config)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        documents: Documents | None = None,
        recall: Recall | None = None,
    ) -> tuple[Tensor, Routing | None]:
        """(batch, sequence, hidden_size) -> same shape, and where there are experts what their router did.

        `documents` and `recall` are as in `Attention`.
        """
        x = x + self.attention(self.attention_norm(x), rotary, documents, recall)
        found = self.feed_forward(self.feed_forward_norm(x))
        y, routing = found if isinstance(found, tuple) else (found, None)
        return x + y, routing


class Decoder(nn.Module):
    """A Llama-style causal language model, dense or with experts in every block's feed-forward.

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

    def hidden_states(
        self, input_ids: Tensor, positions: Tensor | None = None, cache: KeyValueCache | Branches | None = None
    ) -> tuple[Tensor, list[Routing]]:
        """(batch, sequence) int64 -> the normalised last hidden states (batch, sequence, hidden_size), the routings.

        The routings are those of the layers' routers; a dense decoder has none.
        `positions` (batch, sequence), integers, count from 0 in each document of a row; no token then attends to
        another document. Without them a row is one document. With a `cache`, for inference and without `positions`,
        rows continue what it holds.
        """
        documents = None
        if cache is not None:
            counted = cache.start(input_ids)[:, None]  # the same for all heads
        elif positions is None:
            counted = torch.arange(input_ids.shape[1], device=input_ids.device)
        else:
            documents = prepare(positions, self.config.head_size)
            counted = positions[:, None]
        rotary = rotary_table(counted, self.config.head_size, self.config.rope_theta)
        x, routings = self.embedding(input_ids), []
        for layer, block in enumerate(self.blocks):
            x, routing = block(x, rotary, documents, None if cache is None else partial(cache.attend, layer))
            if routing is not None:
                routings.append(routing)
        return self.norm(x), routings

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor | None = None,
        cache: KeyValueCache | Branches | None = None,
        read: Callable[[Tensor, nn.Linear], Any] | None = None,
        with_routings: bool = False,
    ) -> Any:
        """(batch, sequence) int64 -> logits (batch, sequence, vocab_size); arguments as in `hidden_states`.

        With `read` the result is `read(hidden states, head)`: for logits at a few places only, formed inside the
        forward pass, where the weights are whole also when they are sharded. `with_routings` returns (result,
        routings).
        """
        hidden, routings = self.hidden_states(input_ids, positions, cache)
        result = self.head(hidden) if read is None else read(hidden, self.head)
        return (result, routings) if with_routings else result

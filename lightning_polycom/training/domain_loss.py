"""Validation loss of one domain, exact over batches and ranks."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric


class DomainLoss(Metric):
    """Mean negative log-likelihood per token: sums and counts are reduced over ranks, never means of means.

    Sums are fp64, so that the order of batches does not show in the printed digits.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nats", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_tokens", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, nats: Tensor, num_tokens: Tensor) -> None:
        """Adds the summed negative log-likelihood (nats) of `num_tokens` targets."""
        self.nats += nats.double()
        self.num_tokens += num_tokens

    def compute(self) -> Tensor:
        """Nats per token."""
        return self.nats / self.num_tokens


def loss_scalars(domain: str, loss: float, tokens_per_byte: float) -> dict[str, float]:
    """The three figures of a domain: loss (nats per token), perplexity (of a token), bits per UTF-8 byte.

    Bits per byte is loss / ln 2 * tokens per byte of the whole domain, and so comparable between tokenizers.
    """
    return {
        f"val/{domain}/loss": loss,
        f"val/{domain}/perplexity": math.exp(min(loss, 700.0)),
        f"val/{domain}/bits_per_byte": loss / math.log(2) * tokens_per_byte,
    }

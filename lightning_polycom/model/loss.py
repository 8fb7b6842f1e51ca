"""Next-token cross-entropy as sums, so that the caller divides by the number of tokens it is a mean over."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE_INDEX = -100  # torch's own default for targets that do not count


class LossSums(NamedTuple):
    """Sums over the valid targets of a batch, in nats: fp32 scalars, or fp64 ones where the logits are.

    `total` is what to train on and the only one with a gradient: negative_log_likelihood plus the z-loss's weight
    times squared_log_normalizer. `num_tokens` is the number of targets (int64 scalar). `token_losses`, if asked for,
    are the negative log-likelihoods that were summed, shaped as the labels, 0 where a target does not count.
    """

    total: Tensor
    negative_log_likelihood: Tensor
    squared_log_normalizer: Tensor
    num_tokens: Tensor
    token_losses: Tensor | None = None


def next_token_loss(
    logits: Tensor, labels: Tensor, z_loss_weight: float = 0.0, with_token_losses: bool = False
) -> LossSums:
    """Cross-entropy of `logits` (batch, sequence, vocab_size) against `labels` (batch, sequence), in nats.

    Labels equal to IGNORE_INDEX do not count. The squared log-normaliser is the z-loss, log(Z)^2 (PaLM section 5), or
    0 where it has no weight, because it costs another pass. Computed in fp32 whatever lower dtype the logits have.
    """
    logits, targets = logits.flatten(0, 1), labels.flatten()
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    valid = targets != IGNORE_INDEX
    reduction = "none" if with_token_losses else "sum"
    losses = F.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX, reduction=reduction)
    likelihood = losses.sum()  # of a scalar, if it is summed already
    squared = logits.new_zeros(())
    if z_loss_weight:
        squared = (torch.logsumexp(logits, dim=-1).square() * valid).sum()
    total = likelihood + z_loss_weight * squared
    tokens = losses.detach().view(labels.shape) if with_token_losses else None
    return LossSums(total, likelihood.detach(), squared.detach(), valid.sum(), tokens)

"""Next-token cross-entropy as sums, so that the caller divides by the number of tokens it is a mean over."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE_INDEX = -100  # torch's own default for targets that do not count


class LossSums(NamedTuple):
    """Sums over the valid targets of a batch: two fp32 scalars, and the number of targets (int64 scalar)."""

    negative_log_likelihood: Tensor
    squared_log_normalizer: Tensor
    num_tokens: Tensor


def next_token_loss(logits: Tensor, labels: Tensor, with_z_loss: bool = False) -> LossSums:
    """Cross-entropy of `logits` (batch, sequence, vocab_size) against `labels` (batch, sequence), in nats.

    Labels equal to IGNORE_INDEX do not count. The second sum is the z-loss, log(Z)^2 (PaLM section 5), or 0 unless
    asked for, because it costs another pass. Computed in fp32 whatever the logits' dtype.
    """
    logits, labels = logits.flatten(0, 1).float(), labels.flatten()
    valid = labels != IGNORE_INDEX
    likelihood = F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="sum")
    squared = logits.new_zeros(())
    if with_z_loss:
        squared = (torch.logsumexp(logits, dim=-1).square() * valid).sum()
    return LossSums(likelihood, squared, valid.sum())

"""The router: which experts each token goes to, with what weight, and what has to be known of that for the loss."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_polycom.model.mixture_of_experts.config import MixtureOfExpertsConfig


class Routing(NamedTuple):
    """What a layer's router did with the tokens of one forward pass, as sums over them.

    `tokens_per_expert` (num_experts,) int32 and the scalar `entropy` of the probabilities, in nats, have no gradient.
    `probabilities` (num_experts,) and the scalar `squared_log_normalizer` have one. fp32, or fp64.
    """

    tokens_per_expert: Tensor
    probabilities: Tensor
    squared_log_normalizer: Tensor
    entropy: Tensor


class Router(nn.Module):
    """Softmax over all experts, then the largest `experts_per_token` of each token (OLMoE section 2). In fp32.

    With a selection bias experts are chosen by probability plus bias; the weights are the probabilities all the same
    (arXiv 2408.15664).
    """

    def __init__(self, hidden_size: int, config: MixtureOfExpertsConfig):
        super().__init__()
        self.experts_per_token, self.normalize_weights = config.experts_per_token, config.normalize_weights
        self.weight = matrices(config.num_experts, hidden_size)
        self.register_buffer("selection_bias", torch.zeros(config.num_experts) if config.selection_bias else None)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Routing]:
        """(tokens, hidden_size) -> experts (tokens, experts_per_token) int64, weights of that shape, the routing.

        A token's experts come in descending order of what they were chosen by. Weights are fp32, or fp64.
        """
        dtype = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            logits = F.linear(x.to(dtype), self.weight.to(dtype))
        log_normalizer = logits.logsumexp(-1)
        log_probabilities = logits - log_normalizer[:, None]
        probabilities = log_probabilities.exp()
        if self.selection_bias is None:
            weights, experts = probabilities.topk(self.experts_per_token)
        else:
            experts = (probabilities.detach() + self.selection_bias).topk(self.experts_per_token).indices
            weights = probabilities.gather(1, experts)
        if self.normalize_weights:
            weights = weights / weights.sum(-1, keepdim=True)
        routing = Routing(
            count(experts, len(self.weight)),
            probabilities.sum(0),
            log_normalizer.square().sum(),
            -(probabilities * log_probabilities).detach().sum(),
        )
        return experts, weights, routing

    def reset_buffers(self) -> None:
        """Starts without preference: the meta device has left the bias undefined."""
        if self.selection_bias is not None:
            self.selection_bias.zero_()


def count(experts: Tensor, num_experts: int) -> Tensor:
    """How often each expert occurs in `experts`, (num_experts,) int32; nothing is read back to the host."""
    ones = torch.ones_like(experts, dtype=torch.int32).flatten()
    return ones.new_zeros(num_experts).scatter_add_(0, experts.flatten(), ones)


def matrices(*shape: int) -> nn.Parameter:
    """A parameter (..., out, in) that starts as torch's linear layers do, uniform within 1 / sqrt(in)."""
    bound = shape[-1] ** -0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))

"""What keeps the experts of a mixture equally busy: losses on the routing, and how unequal it is."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_polycom.model.mixture_of_experts.routing import Routing


def stack(routings: Sequence[Routing]) -> Routing:
    """The layers' routings as one, each tensor with a first dimension of layers."""
    return Routing(*(torch.stack(values) for values in zip(*routings, strict=True)))


def load_balance_loss(
    tokens_per_expert: Tensor, probabilities: Tensor, num_tokens: int | Tensor, pool_layers: bool = False
) -> Tensor:
    """num_experts * sum over experts of share of tokens * mean probability, averaged over leading dimensions.

    Both are sums over `num_tokens` tokens, (..., num_experts). A token counts once for each of its experts, so that an
    even load gives experts_per_token. Switch Transformer (arXiv 2101.03961), equations 4 to 6, as transformers has it
    for one layer; the trainer of OLMoE divides it by experts_per_token. With `pool_layers` the first dimension, of
    layers, is averaged over before the product, as transformers has it for several.
    """
    shares, means = tokens_per_expert / num_tokens, probabilities / num_tokens
    if pool_layers:
        shares, means = shares.mean(0), means.mean(0)
    return tokens_per_expert.shape[-1] * (shares * means).sum(-1).mean()


def router_z_loss(squared_log_normalizer: Tensor, num_tokens: int | Tensor) -> Tensor:
    """mean over tokens, and over layers, of log(Z)^2 of the router's logits (ST-MoE, arXiv 2202.08906, equation 5)."""
    return (squared_log_normalizer / num_tokens).mean()


def max_load_over_mean(tokens_per_expert: Tensor) -> Tensor:
    """The busiest expert's tokens over the mean, (..., num_experts) -> (...): 1 is even, num_experts is one for all."""
    return tokens_per_expert.amax(-1) / tokens_per_expert.float().mean(-1)


def move_selection_bias(bias: Tensor, tokens_per_expert: Tensor, rate: float | Tensor) -> None:
    """Adds `rate` to the bias of experts below the mean load and takes it from those above, in place.

    Auxiliary-loss-free balancing (arXiv 2408.15664, algorithm 1). (..., num_experts) both.
    """
    mean = tokens_per_expert.float().mean(-1, keepdim=True)
    bias.add_(rate * (mean - tokens_per_expert).sign())

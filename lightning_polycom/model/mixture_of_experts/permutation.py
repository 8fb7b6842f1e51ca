"""Tokens to the rows of their experts and back, without asking the host how many there are of each.

Both ways are gathers, forward and backward, so that sums have a fixed order and no atomics are needed: the gradient of
one is the other.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Permutation(NamedTuple):
    """Where the copies of the tokens lie when they are sorted by expert.

    `order` (rows,): the place of each row in (tokens, experts_per_token), flattened. `rows` (tokens,
    experts_per_token): the rows of each token. `offsets` (num_experts,) int32: the ends of the experts' rows.
    """

    order: Tensor
    rows: Tensor
    offsets: Tensor


def sort_by_expert(experts: Tensor, tokens_per_expert: Tensor) -> Permutation:
    """From each token's experts (tokens, experts_per_token) and their counts; an expert's tokens stay in order."""
    order = experts.flatten().argsort(stable=True)
    rows = torch.empty_like(order)
    rows[order] = torch.arange(len(order), device=order.device)
    return Permutation(order, rows.view_as(experts), tokens_per_expert.cumsum(0, dtype=torch.int32))


def to_experts(x: Tensor, permutation: Permutation) -> Tensor:
    """(tokens, hidden_size) -> a copy for each of a token's experts, (rows, hidden_size), sorted by expert."""
    return _ToExperts.apply(x, permutation.order, permutation.rows)


def to_tokens(y: Tensor, weights: Tensor, permutation: Permutation) -> Tensor:
    """(rows, hidden_size) and the weights (tokens, experts_per_token) -> each token's weighted sum, in y's dtype."""
    return _ToTokens.apply(y, weights, permutation.order, permutation.rows)


class _ToExperts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return x[order // rows.shape[1]]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (rows,) = ctx.saved_tensors
        return _sum_of_rows(grad, rows, None), None, None


class _ToTokens(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, weights: Tensor, order: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(y, weights, order, rows)
        return _sum_of_rows(y, rows, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        y, weights, order, rows = ctx.saved_tensors
        grad_y = (grad[order // rows.shape[1]] * weights.flatten()[order, None]).to(y.dtype)
        choices = rows.unbind(1)
        grad_weights = torch.stack([(y[chosen].to(weights.dtype) * grad).sum(-1) for chosen in choices], dim=1)
        return grad_y, grad_weights, None, None


def _sum_of_rows(y: Tensor, rows: Tensor, weights: Tensor | None) -> Tensor:
    """(rows, hidden_size) -> (tokens, hidden_size), the weighted sum of each token's rows, taken in fp32 at least.

    Nothing is added in place, and nothing cast to the dtype it has: compiled by torch 2.11, either in the forward pass
    of an autograd function gives wrong gradients without a word.
    """
    dtype = torch.promote_types(y.dtype, torch.float32)
    total = y.new_zeros(len(rows), y.shape[1], dtype=dtype)
    for choice, chosen in enumerate(rows.unbind(1)):
        total = total + (y[chosen] if weights is None else y[chosen] * weights[:, choice, None])
    return total if total.dtype == y.dtype else total.to(y.dtype)

"""Causal attention of one document after the other on a CPU, as one torch operator.

The documents' lengths differ in every batch. An operator hides them from torch.compile, which sees the shapes of the
whole batch only and so neither breaks the graph nor compiles again.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_polycom.model.document_attention.visibility import document_starts

NAME = "lightning_polycom::document_attention"

# What scaled_dot_product_attention runs on a CPU. Torch lists neither as public, and both it keeps for autograd.
_FORWARD = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_BACKWARD = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)
AVAILABLE = _FORWARD is not None and _BACKWARD is not None


def attend_by_segments(query: Tensor, key: Tensor, value: Tensor, positions: Tensor) -> Tensor:
    """Attention of `query`, `key`, `value`, each (batch, heads, sequence, head_size), inside the documents.

    `positions` (batch, sequence) is 0 where a document begins. Differentiable once.
    """
    return _attend(query, key, value, positions)[0]


@torch.library.custom_op(f"{NAME}_forward", mutates_args=(), device_types="cpu")
def _attend(query: Tensor, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """The output, and log(sum(exp(scores))) of every query."""
    output, logsumexp = _empty(query)
    query, key, value = (_dense_rows(t) for t in (query, key, value))
    for segment in _segments(positions):
        parts = _FORWARD(query[segment], key[segment], value[segment], 0.0, True)
        output[segment].copy_(parts[0])
        logsumexp[segment].copy_(parts[1])
    return output, logsumexp


@_attend.register_fake
def _(query, key, value, positions):
    return _empty(query)


@torch.library.custom_op(f"{NAME}_backward", mutates_args=(), device_types="cpu")
def _attend_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, logsumexp: Tensor, positions: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value."""
    gradients = tuple(_empty(query)[0] for _ in range(3))
    grad, query, key, value = (_dense_rows(t) for t in (grad, query, key, value))
    for segment in _segments(positions):
        kept = (t[segment] for t in (grad, query, key, value, output, logsumexp))
        for whole, part in zip(gradients, _BACKWARD(*kept, 0.0, True), strict=True):
            whole[segment].copy_(part)
    return gradients


@_attend_backward.register_fake
def _(grad, query, key, value, output, logsumexp, positions):
    return tuple(_empty(query)[0] for _ in range(3))


def _keep_for_backward(ctx, inputs, output) -> None:
    query, key, value, positions = inputs
    ctx.save_for_backward(query, key, value, *output, positions)


def _differentiate(ctx, grad, _):
    return *_attend_backward(grad, *ctx.saved_tensors), None


_attend.register_autograd(_differentiate, setup_context=_keep_for_backward)


def _empty(query: Tensor) -> tuple[Tensor, Tensor]:
    """Room for an output, laid out token by token as the projection after it reads it, and for its logsumexp."""
    batch, heads, sequence, head_size = query.shape
    output = query.new_empty(batch, sequence, heads, head_size).transpose(1, 2)
    dtype = torch.promote_types(query.dtype, torch.float32)
    return output, query.new_empty(batch, heads, sequence, dtype=dtype)


def _dense_rows(x: Tensor) -> Tensor:
    """`x` with its last dimension contiguous, which the kernels ask for; a gradient may be an expanded scalar."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _segments(positions: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """The slices of (batch, heads, sequence) that hold one document each."""
    length = positions.shape[1]
    starts = document_starts(positions).flatten().nonzero().flatten().tolist()
    for start, end in zip(starts, [*starts[1:], positions.numel()], strict=True):
        row, first = divmod(start, length)
        yield slice(row, row + 1), slice(None), slice(first, first + end - start)

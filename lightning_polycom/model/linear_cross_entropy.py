"""The output head and its next-token loss in one: the logits are never held whole where they would dominate.

Where they would not, at most WHOLE_LOGITS_BYTES in fp32, they are held, and torch's own functions differentiate them.
Otherwise a chunk of rows gets its logits, their loss and its gradients, and the next chunk takes the logits' place:
none are left for backward, which only scales the finished gradients.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lightning_polycom.activations.kernels.chunks import slices
from lightning_polycom.model.loss import IGNORE_INDEX, LossSums, next_token_loss

WHOLE_LOGITS_BYTES = 2**24
CHUNK_SHARE = 8  # a chunk and what is computed beside it take at most one in so many bytes of the logits
MAX_CHUNK_BYTES = 2**27
# Of what is computed in fp32 at once. On a CPU it stays in a core's cache; on a GPU it has to be worth its launches.
BLOCK_BYTES = {"cpu": 2**20}
DEFAULT_BLOCK_BYTES = 2**25


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, z_loss_weight: float = 0.0, with_token_losses: bool = False
) -> LossSums:
    """Cross-entropy of `hidden` (batch, sequence, hidden_size) @ `weight` (vocab_size, hidden_size).T, in nats.

    `labels` are (batch, sequence); those equal to IGNORE_INDEX do not count. The products have the inputs' dtype, or
    autocast's; all after them is fp32, and so are the sums. Equals `next_token_loss` of whole logits but for the order
    of additions; a weight's gradient is summed in fp32 even where the products are bf16.
    """
    if holds_whole_logits(labels.numel(), weight.shape[0]):
        return next_token_loss(F.linear(hidden, weight), labels, z_loss_weight, with_token_losses)
    return chunked_linear_cross_entropy(hidden, weight, labels, z_loss_weight, with_token_losses)


def read_loss(labels: Tensor, z_loss_weight: float = 0.0) -> Callable[[Tensor, nn.Linear], LossSums]:
    """What `decoder(input_ids, read=...)` takes to give the loss of `labels` in place of logits.

    So the loss is formed inside the decoder's forward pass, where the head's weight is whole also when it is sharded.
    """
    return lambda hidden, head: linear_cross_entropy(hidden, head.weight, labels, z_loss_weight)


def holds_whole_logits(num_rows: int, vocab_size: int) -> bool:
    """Whether the logits of that many tokens are small enough to be held whole."""
    return 4 * num_rows * vocab_size <= WHOLE_LOGITS_BYTES


def chunked_linear_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, z_loss_weight: float = 0.0, with_token_losses: bool = False
) -> LossSums:
    """`linear_cross_entropy` in chunks, however few the logits are. Differentiable once."""
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    arguments = (hidden.flatten(0, 1), weight, labels.flatten(), z_loss_weight, dtype)
    if torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad):
        total, losses, squares = _DifferentiatedInForward.apply(*arguments)
    else:
        losses, squares = _run(*arguments, None, None)
        total = losses.sum() + z_loss_weight * squares.sum()
    tokens = losses.view(labels.shape) if with_token_losses else None
    return LossSums(total, losses.sum(), squares.sum(), (labels != IGNORE_INDEX).sum(), tokens)


class _DifferentiatedInForward(torch.autograd.Function):
    """The total, and the rows' losses and squared log-normalisers; the total's gradients wait for their factor."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, z_loss_weight: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor]:
        hidden_gradient = weight_gradient = None
        if ctx.needs_input_grad[0]:
            hidden_gradient = torch.empty_like(hidden)
        if ctx.needs_input_grad[1]:
            weight_gradient = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
        losses, squares = _run(hidden, weight, labels, z_loss_weight, dtype, hidden_gradient, weight_gradient)
        if weight_gradient is not None:
            weight_gradient = weight_gradient.to(weight.dtype)
        # Not among autograd's saved tensors, so that backward may scale them where they are.
        ctx.gradients = (hidden_gradient, weight_gradient)
        ctx.mark_non_differentiable(losses, squares)
        ctx.set_materialize_grads(False)
        return losses.sum() + z_loss_weight * squares.sum(), losses, squares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the chunked loss was differentiated before; its gradients are handed out once")
        gradients, ctx.gradients = ctx.gradients, None
        if factor is None:
            return None, None, None, None, None
        return *(None if gradient is None else gradient.mul_(factor) for gradient in gradients), None, None, None


class ChunkPlan(NamedTuple):
    """Rows whose logits are held at once, and how many elements of fp32 are computed at once."""

    rows: int
    block_elements: int


def chunk_plan(num_rows: int, weight_shape: torch.Size, dtype: torch.dtype, device: torch.device) -> ChunkPlan:
    """Chunks of about equal size for `weight_shape` (vocab_size, hidden_size), for logits of `dtype`.

    What a chunk allocates, its logits, the rows' inputs and gradients, and a block in fp32, is at most 1 / CHUNK_SHARE
    of the whole logits, and at most MAX_CHUNK_BYTES, unless that is less than one row.
    """
    vocab_size, hidden_size = weight_shape
    budget = min(num_rows * vocab_size * dtype.itemsize // CHUNK_SHARE, MAX_CHUNK_BYTES)
    block = min(BLOCK_BYTES.get(device.type, DEFAULT_BLOCK_BYTES), budget // 4)
    beside = block if dtype.itemsize < 4 else 0  # else blocks are parts of the chunk itself
    most = max(1, (budget - beside) // ((vocab_size + 2 * hidden_size) * dtype.itemsize))
    chunks = max(1, -(-num_rows // most))
    return ChunkPlan(max(1, -(-num_rows // chunks)), max(1, block // 4))


@torch.no_grad()
def _run(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    z_loss_weight: float,
    dtype: torch.dtype,
    hidden_gradient: Tensor | None,
    weight_gradient: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The losses and squared log-normalisers of the rows, 0 where a label does not count; fills in the gradients.

    `weight_gradient` comes as zeros. Without either no work is done for gradients.
    """
    plan = chunk_plan(len(hidden), weight.shape, dtype, hidden.device)
    differentiate = hidden_gradient is not None or weight_gradient is not None
    with torch.autocast(hidden.device.type, enabled=False):
        weight = weight.to(dtype)
        chunk_logits = hidden.new_empty(min(plan.rows, len(hidden)), len(weight), dtype=dtype)
        losses = hidden.new_zeros(len(hidden), dtype=torch.promote_types(dtype, torch.float32))
        squares = torch.zeros_like(losses)
        for chunk in slices(len(hidden), plan.rows):
            rows = hidden[chunk].to(dtype)
            logits = torch.mm(rows, weight.t(), out=chunk_logits[: len(rows)])
            for block in slices(len(rows), plan.block_elements // len(weight)):
                part = slice(chunk.start + block.start, chunk.start + block.stop)
                found = _block_losses(logits[block], labels[part], z_loss_weight, differentiate)
                losses[part], squares[part] = found
            if hidden_gradient is not None:
                hidden_gradient[chunk] = logits @ weight
            if weight_gradient is not None:
                _add_product(weight_gradient, logits, rows, plan.block_elements)
    return losses, squares


def _block_losses(logits: Tensor, labels: Tensor, z_loss_weight: float, differentiate: bool) -> tuple[Tensor, Tensor]:
    """Losses and squared log-normalisers of rows; overwrites their `logits`, with the gradient where it is asked for.

    loss = log Z - logit of the label, Z = sum(exp(logits)), so that the gradient of loss + weight (log Z)^2 is
    (1 + 2 weight log Z) exp(logits) / Z - 1 at the label.
    """
    valid = labels != IGNORE_INDEX
    row, label = torch.arange(len(labels), device=labels.device), labels.where(valid, 0)
    values = logits.to(torch.promote_types(logits.dtype, torch.float32))  # the same memory, if it is fp32
    at_label = values[row, label]
    largest = values.amax(1, keepdim=True)
    normalizer = values.sub_(largest).exp_().sum(1, keepdim=True)
    log_normalizer = (largest + normalizer.log()).squeeze(1)
    if differentiate:
        factor = (1 + 2 * z_loss_weight * log_normalizer).where(valid, 0)
        values.mul_(factor[:, None] / normalizer)
        values[row, label] -= valid.to(values.dtype)
        if values is not logits:
            logits.copy_(values)
    squares = log_normalizer.square() if z_loss_weight else torch.zeros_like(log_normalizer)
    return (log_normalizer - at_label).where(valid, 0), squares.where(valid, 0)


def _add_product(total: Tensor, logits: Tensor, rows: Tensor, block_elements: int) -> None:
    """total += logits.T @ rows. A product of lower precision than the total is added part by part, not held whole."""
    if total.dtype == rows.dtype:
        total.addmm_(logits.t(), rows)
        return
    for block in slices(len(total), 2 * block_elements // rows.shape[1]):
        total[block].add_(logits[:, block].t() @ rows)

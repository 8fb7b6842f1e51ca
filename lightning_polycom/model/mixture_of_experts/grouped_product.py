"""Products of sorted rows with the matrix of the group they belong to: one call for all experts.

The rows of group e are those from offsets[e - 1] to offsets[e]; a group may have none. Operators of their own, so that
one place says which of torch's ways computes them, compiled graphs do not break, and the offsets are never read by
Python where torch can do it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

ALIGNMENT_BYTES = 16  # of the distance between rows, as torch's grouped products want it
BLOCK_ROWS = 64
NAME = "lightning_polycom::grouped"


def grouped_linear(x: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
    """Rows (rows, in), sorted by group, times weight (groups, out, in) transposed -> (rows, out).

    `offsets` (groups,) int32 are the ends of the groups' rows, ascending; the last is `rows`. As in a linear layer,
    autocast says the dtype, otherwise the inputs' own.
    """
    device = x.device.type
    if device != "meta" and torch.is_autocast_enabled(device):  # meta has no autocast, and refuses the question
        dtype = torch.get_autocast_dtype(device)
        x, weight = x.to(dtype), weight.to(dtype)
    return grouped_rows(x, weight.transpose(1, 2), offsets)


@torch.library.custom_op(f"{NAME}_rows", mutates_args=())
def grouped_rows(x: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
    """(rows, in) times the row's own matrix of (groups, in, out) -> (rows, out)."""
    if _is_grouped_by_torch(x, weight):
        return F.grouped_mm(x, weight, offs=offsets)
    found = x.new_empty(len(x), weight.shape[2])
    for matrix, (start, end) in zip(weight, _bounds(offsets), strict=True):
        # Rows of neighbours are multiplied too, and thrown away.
        first = max(0, min(start, len(x) - _in_blocks(end - start)))
        found[start:end] = (x[first : first + _in_blocks(end - start)] @ matrix)[start - first : end - first]
    return found


@torch.library.custom_op(f"{NAME}_sums", mutates_args=())
def grouped_sums(x: Tensor, y: Tensor, offsets: Tensor) -> Tensor:
    """(rows, in) and (rows, out) -> x.T @ y of each group's rows, (groups, in, out); zero for a group without rows."""
    if _is_grouped_by_torch(x, y):
        return F.grouped_mm(x.t(), y, offs=offsets)
    found = x.new_empty(len(offsets), x.shape[1], y.shape[1])
    for matrix, (start, end) in zip(found, _bounds(offsets), strict=True):
        padding = (0, 0, 0, _in_blocks(end - start) - (end - start))  # rows of zeros add nothing
        torch.mm(F.pad(x[start:end], padding).t(), F.pad(y[start:end], padding), out=matrix)
    return found


@grouped_rows.register_fake
def _(x, weight, offsets):
    return x.new_empty(x.shape[0], weight.shape[2])


@grouped_sums.register_fake
def _(x, y, offsets):
    return x.new_empty(offsets.shape[0], x.shape[1], y.shape[1])


def _keep_for_backward(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx, grad):
    x, weight, offsets = ctx.saved_tensors
    grad = grad.contiguous()  # torch refuses the stride of 0 that the gradient of a sum has
    needs_x, needs_weight, _ = ctx.needs_input_grad
    grad_x = grouped_rows(grad, weight.transpose(1, 2), offsets) if needs_x else None
    # Summed as (groups, out, in), so that the gradient lies in memory as the parameter does.
    grad_weight = grouped_sums(grad, x, offsets).transpose(1, 2) if needs_weight else None
    return grad_x, grad_weight, None


grouped_rows.register_autograd(_differentiate, setup_context=_keep_for_backward)


def _is_grouped_by_torch(*factors: Tensor) -> bool:
    """Whether torch groups the products; else each expert's are computed in turn, and the offsets are read for that.

    torch groups fp32 on a CPU and bf16 on a GPU, if there are rows, and each starts at a multiple of 16 bytes. It would
    group bf16 on a CPU too, but there every number of rows that has not been seen costs more than the product.
    """
    dtype = torch.float32 if factors[0].device.type == "cpu" else torch.bfloat16
    return factors[0].dtype == dtype and all(factor.numel() and _is_aligned(factor) for factor in factors)


def _in_blocks(rows: int) -> int:
    """Rows rounded up to whole blocks: oneDNN builds a kernel for every number of rows and keeps some of them."""
    return -(-rows // BLOCK_ROWS) * BLOCK_ROWS


def _is_aligned(factor: Tensor) -> bool:
    steps = [stride * factor.itemsize for stride in factor.stride() if stride != 1]
    return factor.data_ptr() % ALIGNMENT_BYTES == 0 and all(step % ALIGNMENT_BYTES == 0 for step in steps)


def _bounds(offsets: Tensor) -> list[tuple[int, int]]:
    ends = offsets.tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))

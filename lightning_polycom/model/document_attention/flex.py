"""Attention inside documents by flex_attention: on a GPU it skips the blocks that no document spans."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_polycom.model.document_attention.visibility import document_numbers

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

MIN_HEAD_SIZE = 16  # its kernels take no narrower heads


def available(device: torch.device, head_size: int) -> bool:
    """Whether flex_attention has compiled kernels with a backward pass here; uncompiled it holds every score."""
    if device.type != "cuda" or head_size < MIN_HEAD_SIZE:
        return False
    from torch.utils._triton import has_triton

    return has_triton()


def block_mask(positions: Tensor) -> "BlockMask":
    """The blocks of queries and keys that share a document; `positions` (batch, sequence) is 0 where one begins."""
    from torch.nn.attention.flex_attention import create_block_mask

    numbers = document_numbers(positions)

    def same_document(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (numbers[batch, query] == numbers[batch, key])

    batch, length = positions.shape
    return create_block_mask(same_document, batch, None, length, length, device=positions.device)


def attend_by_blocks(query: Tensor, key: Tensor, value: Tensor, mask: "BlockMask") -> Tensor:
    """Attention of `query` (batch, heads, sequence, head_size), `key` and `value`, of as many or fewer heads."""
    from torch.nn.attention.flex_attention import flex_attention

    # Inside a compiled block it is part of that graph; a block that is not compiled compiles it alone.
    alone = query.device.type == "cuda" and not torch.compiler.is_compiling()
    run = _compiled() if alone else flex_attention
    return run(query, key, value, block_mask=mask, enable_gqa=key.shape[1] != query.shape[1])


@cache
def _compiled() -> Callable:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)

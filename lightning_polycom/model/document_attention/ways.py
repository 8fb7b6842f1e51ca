"""The choice between the ways, made once a batch and shared by all layers."""

from typing import TYPE_CHECKING, NamedTuple, Union

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_polycom.model.document_attention import flex, segments
from lightning_polycom.model.document_attention.visibility import visible

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


class Documents(NamedTuple):
    """What attention needs to know of a batch's documents.

    `positions` (batch, sequence) is 0 where a document begins. `mask` is None where each document is attended by
    itself, else a bool mask (batch, 1, sequence, sequence), or flex_attention's blocks.
    """

    positions: Tensor
    mask: Union[Tensor, "BlockMask", None]


def prepare(positions: Tensor, head_size: int) -> Documents:
    """Chooses the way for the device of `positions` (batch, sequence), and builds the mask that it needs.

    On a CPU one document after the other: the masked pairs cost nothing, where a dense mask costs twice the causal
    attention at 4,096 tokens. On a GPU flex_attention while training, where its kernels are compiled; without
    gradients, which is where nothing may be compiled, and anywhere else, the dense mask.
    """
    if positions.device.type == "cpu" and segments.AVAILABLE:
        return Documents(positions, None)
    if torch.is_grad_enabled() and flex.available(positions.device, head_size):
        return Documents(positions, flex.block_mask(positions))
    return Documents(positions, visible(positions))


def attend(query: Tensor, key: Tensor, value: Tensor, documents: Documents) -> Tensor:
    """Causal attention inside documents: `query` (batch, heads, sequence, head_size) -> same shape.

    `key` and `value` may have fewer heads, a divisor of the query's.
    """
    grouped = key.shape[1] != query.shape[1]
    if documents.mask is None:
        if grouped:
            key, value = (t.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for t in (key, value))
        return segments.attend_by_segments(query, key, value, documents.positions)
    if isinstance(documents.mask, Tensor):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=documents.mask, enable_gqa=grouped)
    return flex.attend_by_blocks(query, key, value, documents.mask)

"""Several continuations of one beginning in a single row: a tree of tokens, each of which sees its own branch only."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_polycom.model.key_value_cache import KeyValueCache


class Branches:
    """As `cache` of a forward pass: the input's rows are trees of tokens behind a stored beginning, kept as it is.

    The tokens of a tree stand in depth-first order: each behind the one that it continues, and behind all that
    continues its earlier siblings. So the descendants of a token are the tokens up to an end.

    Args:
        positions: (rows, tokens), each token's position in its sequence.
        ends: (rows, tokens), the column behind each token's last descendant. A pad ends right behind itself.
        prefix: One stored row that all trees continue; its keys and values are shared, not changed.
    """

    def __init__(self, positions: Tensor, ends: Tensor, prefix: KeyValueCache | None = None):
        self.positions, self.prefix = positions, prefix
        column = torch.arange(ends.shape[1], device=ends.device)
        visible = (column[:, None] < ends[:, None, :]).tril()
        if prefix is not None:
            visible = torch.cat([visible.new_ones(*visible.shape[:2], prefix.longest), visible], dim=2)
        self._visible = visible[:, None]

    def start(self, input_ids: Tensor) -> Tensor:
        """Begins a forward pass over the trees' tokens (rows, tokens): their positions, of the same shape."""
        return self.positions

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Every token attends to the stored beginning and to its own branch up to itself."""
        grouped = key.shape[1] != query.shape[1]
        if self.prefix is not None:
            # One copy for a row, whatever the number of its branches.
            first_key, first_value = (t.expand(len(key), -1, -1, -1) for t in self.prefix.stored(layer))
            key, value = torch.cat([first_key, key], dim=2), torch.cat([first_value, value], dim=2)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=self._visible, enable_gqa=grouped)

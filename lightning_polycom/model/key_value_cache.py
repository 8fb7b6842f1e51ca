"""Keys and values of tokens that a decoder has read, so that the tokens behind them need not read them again."""

import torch
from torch import Tensor
from torch.nn import functional as F


class KeyValueCache:
    """What a decoder's layers keep of `rows` sequences of up to `capacity` tokens each; for inference only.

    As `cache` of a forward pass it takes in the input's tokens, which continue its rows; `lengths` counts the tokens
    of each row. Rows of unequal length are padded on the right for the pass and cut back by `truncate`: the slot of a
    token is its position, so that the tokens to come overwrite the pads. There is no sliding: what goes beyond
    `capacity` does not fit.
    """

    def __init__(self, rows: int, capacity: int, device: torch.device | str = "cpu"):
        self.capacity, self.device = capacity, device
        self.lengths = [0] * rows
        self._layers: list[tuple[Tensor, Tensor]] = []
        self._slots = self._visible = None

    @property
    def longest(self) -> int:
        """The tokens of the longest row."""
        return max(self.lengths, default=0)

    def start(self, input_ids: Tensor) -> Tensor:
        """Begins a forward pass over new tokens (rows, tokens): their positions, of the same shape."""
        before, new = self.longest, input_ids.shape[1]
        if before + new > self.capacity:
            raise ValueError(f"{before + new} tokens exceed the cache's capacity of {self.capacity}")
        lengths = torch.tensor(self.lengths, device=self.device)
        self._slots = lengths[:, None] + torch.arange(new, device=self.device)
        self._visible = None
        if before:
            keys = torch.arange(before + new, device=self.device)
            self._visible = (keys <= self._slots[..., None])[:, None]
        self.lengths = [length + new for length in self.lengths]
        return self._slots

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Stores the new keys and values (rows, heads, tokens, head_size) and attends to all up to each token."""
        grouped = key.shape[1] != query.shape[1]
        if layer == len(self._layers):
            shape = (len(self.lengths), key.shape[1], self.capacity, key.shape[3])
            self._layers.append((key.new_zeros(shape), value.new_zeros(shape)))
        rows = torch.arange(len(self.lengths), device=self.device)[:, None]
        for stored, new in zip(self._layers[layer], (key, value), strict=True):
            stored[rows, :, self._slots] = new.transpose(1, 2)
        if self._visible is None:  # nothing lies before the new tokens
            return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
        key, value = self.stored(layer)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=self._visible, enable_gqa=grouped)

    def stored(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's keys and values, (rows, heads, longest, head_size) each."""
        key, value = self._layers[layer]
        return key[:, :, : self.longest], value[:, :, : self.longest]

    def truncate(self, lengths: list[int]) -> None:
        """Forgets what lies behind the first `lengths[r]` tokens of row r: pads, for one."""
        self.lengths = list(lengths)

    def keep(self, rows: list[int]) -> None:
        """Keeps only these rows, in this order."""
        index = torch.tensor(rows, dtype=torch.int64, device=self.device)
        self.lengths = [self.lengths[row] for row in rows]
        self._layers = [(key[index], value[index]) for key, value in self._layers]

    def join(self, other: "KeyValueCache") -> None:
        """Appends the rows of a cache of the same capacity."""
        if self.lengths:
            both = zip(self._layers, other._layers, strict=True)
            self._layers = [(torch.cat([a, c]), torch.cat([b, d])) for (a, b), (c, d) in both]
        else:
            self._layers = other._layers
        self.lengths += other.lengths

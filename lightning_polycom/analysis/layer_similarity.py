"""How alike the hidden states of a decoder's layers are."""

import torch
from torch import Tensor

CHUNK = 256  # tokens whose states of all layers are held in fp64 at once


class LayerSimilarity:
    """Mean over tokens of the cosine similarity between the hidden states of every two layers, added up in fp64.

    A state of zeros has similarity 0 with every other.
    """

    def __init__(self) -> None:
        self.num_tokens = 0
        self._sums: Tensor | None = None

    def add(self, states: list[Tensor]) -> None:
        """Adds some tokens: one tensor (..., hidden_size) a layer, of equal shape, with the tokens in front."""
        rows = [state.detach().flatten(0, -2) for state in states]
        for chunks in zip(*(row.split(CHUNK) for row in rows), strict=True):
            self._add(torch.stack(chunks).double())

    def merge(self, other: "LayerSimilarity") -> None:
        """Adds what another one has seen."""
        if other._sums is not None:
            self._add_sums(other._sums, other.num_tokens)

    def mean(self) -> Tensor:
        """(layers, layers) fp64: the mean over tokens."""
        return self._sums / self.num_tokens

    def _add(self, states: Tensor) -> None:
        lengths = states.norm(dim=-1, keepdim=True)
        unit = (states / torch.where(lengths > 0, lengths, 1.0)).flatten(1)  # (layers, tokens * hidden_size)
        self._add_sums((unit @ unit.T).cpu(), states.shape[1])

    def _add_sums(self, sums: Tensor, num_tokens: int) -> None:
        self._sums = sums if self._sums is None else self._sums + sums
        self.num_tokens += num_tokens

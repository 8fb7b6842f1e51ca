"""Which token may attend to which, read off the positions."""

from torch import Tensor


def document_starts(positions: Tensor) -> Tensor:
    """Where documents begin: `positions` (batch, sequence) -> bool, true at position 0 and at each row's first token.

    A row's first token begins a document whatever its position, because nothing lies before it.
    """
    starts = positions == 0
    starts[:, 0] = True
    return starts


def document_numbers(positions: Tensor) -> Tensor:
    """The number of each token's document in its row, from 1: (batch, sequence) -> same shape, int64."""
    return document_starts(positions).cumsum(1)


def visible(positions: Tensor) -> Tensor:
    """Pairs of query and key in one document, the key not after the query: bool (batch, 1, sequence, sequence)."""
    numbers = document_numbers(positions)
    return (numbers[:, None, :, None] == numbers[:, None, None, :]).tril()

"""The held-out tokens that an analysis reads: whole windows, spread evenly over the validation domains."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_polycom.data.documents import document_positions
from lightning_polycom.data.training_data import Shards
from lightning_polycom.errors import InputError

BATCH_TOKENS = 4096  # of one forward pass, whose hidden states of all layers are held at once


class ProbeBatch(NamedTuple):
    """`input_ids` (windows, length) int64, and `positions` of the same shape where documents are kept apart."""

    input_ids: Tensor
    positions: Tensor | None

    def to(self, device: torch.device) -> "ProbeBatch":
        """The batch on a device."""
        return ProbeBatch(*(None if tensor is None else tensor.to(device) for tensor in self))


class ProbeWindows:
    """Batches of windows without padding, the same ones in the same order on every rank.

    Each domain gives an equal share of `num_tokens`, rounded up to whole windows, as far as it has so many. A domain
    shorter than a window is one shorter window. A batch is one window, or as many as have BATCH_TOKENS together.

    Raises:
        InputError: no domain.
    """

    def __init__(
        self, domains: dict[str, Shards], sequence_length: int, num_tokens: int, separate_documents: bool = False
    ):
        if not domains:
            raise InputError("data: no validation domain to read; name held-out text under data.validation")
        self.separate_documents = separate_documents
        share, self._batches = -(-num_tokens // len(domains)), []
        rows = max(1, BATCH_TOKENS // sequence_length)
        for shards in domains.values():
            length = min(sequence_length, shards.num_tokens)
            available = shards.num_tokens // length
            used = min(available, -(-share // length))
            starts = [number * available // used * length for number in range(used)]
            self._batches += [(shards, starts[i : i + rows], length) for i in range(0, used, rows)]

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def num_tokens(self) -> int:
        """Tokens of all windows."""
        return sum(len(starts) * length for _, starts, length in self._batches)

    def read(self, number: int) -> ProbeBatch:
        """One batch."""
        shards, starts, length = self._batches[number]
        ids = np.stack([np.asarray(shards.read(start, length), dtype=np.int64) for start in starts])
        if not self.separate_documents:
            return ProbeBatch(torch.from_numpy(ids), None)
        return ProbeBatch(torch.from_numpy(ids), torch.from_numpy(document_positions(ids == shards.eos_token_id)))

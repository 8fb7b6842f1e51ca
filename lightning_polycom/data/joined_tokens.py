"""Shards of several domains, of whatever dtypes, read as one sequence."""

from collections.abc import Sequence

import numpy as np

from lightning_polycom.data.token_sequence import TokenSequence
from lightning_polycom.errors import InputError


class JoinedTokens:
    """Several sequences, one behind the other.

    Attributes:
        num_tokens: Sum over the sequences.
        dtype: numpy dtype of the ids in `read`: that of all sequences, or int64 if they differ.
        eos_token_id: The id that ends documents in all of them.
    """

    def __init__(self, sequences: Sequence[TokenSequence], eos_token_id: int):
        self._sequences, self.eos_token_id = list(sequences), eos_token_id
        self._bounds = np.cumsum([0, *(sequence.num_tokens for sequence in sequences)])
        self.num_tokens = int(self._bounds[-1])
        dtypes = {sequence.dtype for sequence in sequences}
        self.dtype = dtypes.pop() if len(dtypes) == 1 else np.dtype(np.int64)

    def read(self, start: int, length: int) -> np.ndarray:
        """Tokens [start, start + length), across sequences: `dtype` (length,).

        Raises:
            InputError: the range leaves [0, num_tokens].
        """
        if start < 0 or start + length > self.num_tokens:
            raise InputError(
                f"tokens {start} to {start + length} lie outside the {self.num_tokens} of all domains; read within them"
            )
        out, filled = np.empty(length, self.dtype), 0
        part = int(np.searchsorted(self._bounds, start, side="right")) - 1
        while filled < length:
            offset = start + filled - int(self._bounds[part])
            count = min(length - filled, self._sequences[part].num_tokens - offset)
            out[filled : filled + count] = self._sequences[part].read(offset, count)
            filled, part = filled + count, part + 1
        return out

    def read_batch(self, starts: np.ndarray, length: int, dtype: np.dtype | type = np.int64) -> np.ndarray:
        """Windows of `length` tokens at each of `starts`: `dtype` (len(starts), length).

        Raises:
            InputError: a range leaves [0, num_tokens].
        """
        return np.stack([self.read(int(start), length) for start in starts]).astype(dtype, copy=False)

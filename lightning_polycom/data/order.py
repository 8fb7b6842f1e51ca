"""The order of samples as arithmetic: a keyed permutation computed on the fly, so that no index is ever stored."""

import hashlib

import numpy as np

_ROUNDS = 6
_MAX_SIZE = 2**62


def permute(positions: np.ndarray, size: int, key: int) -> np.ndarray:
    """Maps each position by a pseudo-random bijection on [0, size) that the 64-bit `key` selects.

    A Feistel network permutes the smallest range of an even number of bits that holds `size`; a value that falls
    outside [0, size) is permuted again until it falls inside, which keeps the map a bijection.

    Args:
        positions: Integers in [0, size), any shape.
        size: From 1 to 2**62.
        key: Non-negative integer below 2**64.

    Returns:
        int64, the shape of `positions`.

    Raises:
        ValueError: size or a position out of range.
    """
    positions = np.asarray(positions)
    if not 1 <= size <= _MAX_SIZE:
        raise ValueError(f"size must be in [1, 2**62], found {size}")
    if positions.size and (positions.min() < 0 or positions.max() >= size):
        raise ValueError(f"positions must be in [0, {size}), found {positions.min()} to {positions.max()}")
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    round_keys = _round_keys(key)
    values = _feistel(positions.astype(np.uint64).reshape(-1), half_bits, round_keys)
    outside = np.flatnonzero(values >= size)
    while outside.size:
        values[outside] = _feistel(values[outside], half_bits, round_keys)
        outside = outside[values[outside] >= size]
    return values.astype(np.int64).reshape(positions.shape)


class SampleOrder:
    """The endless stream of sample indices: epoch after epoch, each in its own order.

    The index at a position is a function of (position, num_samples, seed, fingerprint) alone, so that a resumed run
    needs one integer and any split over ranks sees the same stream.
    """

    def __init__(self, num_samples: int, seed: int, fingerprint: str):
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, found {num_samples}")
        self.num_samples, self.seed, self.fingerprint = num_samples, seed, fingerprint

    def indices(self, start: int, count: int) -> np.ndarray:
        """Sample indices at positions [start, start + count) of the stream, int64 (count,), in [0, num_samples)."""
        return self.at(np.arange(start, start + count, dtype=np.int64))

    def starts(self, positions: np.ndarray, sequence_length: int) -> np.ndarray:
        """First tokens of the samples at the given positions of the stream, int64 (count,): int64 (count,)."""
        return self.at(positions) * sequence_length

    def epochs(self, position: int) -> float:
        """How often all samples have been gone through before `position`."""
        return position / self.num_samples

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Sample indices at the given positions of the stream: int64, in [0, num_samples)."""
        epochs, offsets = np.divmod(np.asarray(positions, np.int64), self.num_samples)
        out = np.empty(len(offsets), np.int64)
        for epoch in np.unique(epochs):
            mine = epochs == epoch
            out[mine] = permute(offsets[mine], self.num_samples, self._key(int(epoch)))
        return out

    def _key(self, epoch: int) -> int:
        digest = hashlib.sha256(f"{self.seed}/{epoch}/{self.fingerprint}".encode()).digest()
        return int.from_bytes(digest[:8], "little")


def _round_keys(key: int) -> np.ndarray:
    counters = np.arange(1, _ROUNDS + 1, dtype=np.uint64)
    # Successive odd multiples of the golden ratio keep the rounds' keys apart even for small keys.
    return _mix(np.uint64(key) + counters * np.uint64(0x9E3779B97F4A7C15))


def _feistel(values: np.ndarray, half_bits: int, round_keys: np.ndarray) -> np.ndarray:
    """One pass over [0, 4**half_bits), uint64 (n,) to uint64 (n,)."""
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> shift, values & mask
    for round_key in round_keys:
        left, right = right, left ^ (_mix(right + round_key) & mask)
    return (left << shift) | right


def _mix(values: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64: each input bit changes every output bit with probability one half."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))

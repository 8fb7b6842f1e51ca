"""A hash of what a run trains on, that does not depend on how its batches are cut.

Every sample has a hash, of its place in the stream and its tokens. Their sum, modulo 2^63, is the hash of the stream so
far: a sum is the same in any order, so ranks, micro-batches and starts of a run may each add up their own.
It tells an accident, such as other data or another order, not a forgery.
"""

import hashlib

import numpy as np

MODULUS = 1 << 63  # so that a sum is an int64


def samples_hash(positions: np.ndarray, *contents: np.ndarray) -> int:
    """The sum of the samples' hashes, from 0 to MODULUS - 1.

    Args:
        positions: Places of the samples in the stream: int64 (samples,).
        contents: What a sample is made of, int64, one row a sample; contiguous.
    """
    total = 0
    for position, *rows in zip(positions.tolist(), *contents, strict=True):
        digest = hashlib.blake2b(position.to_bytes(8, "little"), digest_size=8)
        for row in rows:
            digest.update(row)
        total += int.from_bytes(digest.digest(), "little")
    return total % MODULUS

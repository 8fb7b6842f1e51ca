"""Repetition in token ids: sequences in which a few tokens come again and again, directly behind each other.

An n-gram of period p that stands c times in a row is a run of (c - 1) * p tokens each equal to the token p before it.
Periods of 1 to 13 and 32 times are what OLMo's instance filter takes (`find_periodic_sequences` in olmo/data/util.py),
with which OLMoE was trained.
"""

import numpy as np

MAX_PERIOD = 13
MIN_COUNT = 32

_BLOCK = 8  # matches looked at in one comparison, as the bytes of an integer
_ALL = np.uint64(0x0101010101010101)


def has_repetition(ids: np.ndarray, max_period: int = MAX_PERIOD, min_count: int = MIN_COUNT) -> bool:
    """Whether an n-gram of 1 to `max_period` ids stands `min_count` times or more in a row in `ids`.

    Args:
        ids: Integers of any dtype, (length,).
        max_period: Longest n-gram looked for, at least 1.
        min_count: At least 2.
    """
    return bool(repeated_rows(np.asarray(ids)[None], max_period, min_count)[0])


def repeated_rows(ids: np.ndarray, max_period: int = MAX_PERIOD, min_count: int = MIN_COUNT) -> np.ndarray:
    """`has_repetition` of each row of `ids` (rows, length): bool (rows,). Narrow dtypes are the fastest.

    Args:
        ids: Integers of any dtype.
        max_period: Longest n-gram looked for, at least 1.
        min_count: At least 2.
    """
    rows, length = ids.shape
    found = np.zeros(rows, bool)
    # Blocks must not reach into the next row; the columns behind the matches stay False and end every run.
    matches = np.zeros((rows, -(-length // _BLOCK) * _BLOCK), bool)
    for period in range(1, min(max_period, length // min_count) + 1):
        needed = (min_count - 1) * period
        np.equal(ids[:, period:], ids[:, :-period], out=matches[:, : length - period])
        matches[:, length - period] = False
        # Text hardly ever matches in whole blocks, of which a run has as many as this wherever it begins.
        blocks = matches.view(np.uint64) == _ALL
        if np.count_nonzero(blocks) >= (needed - _BLOCK + 1) // _BLOCK:
            found[_rows_with_run(matches, needed)] = True
    return found


def _rows_with_run(matches: np.ndarray, needed: int) -> np.ndarray:
    """Numbers of the rows that have `needed` or more successive True; each row ends with a False."""
    breaks = np.flatnonzero(~matches)
    return breaks[np.diff(breaks, prepend=-1) > needed] // matches.shape[1]

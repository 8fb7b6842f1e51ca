"""Repeated n-grams, against a search that tries every place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_polycom.data.repetition import has_repetition, repeated_rows

DTYPES = ["<u2", "<u4", "int64"]


def by_hand(ids: list[int], max_period: int = 13, min_count: int = 32) -> bool:
    return any(
        ids[start : start + period * min_count] == ids[start : start + period] * min_count
        for period in range(1, max_period + 1)
        for start in range(len(ids) - period * min_count + 1)
    )


def distinct(count: int, first: int = 1000) -> list[int]:
    return list(range(first, first + count))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("period", [1, 2, 7, 8, 12, 13])
@pytest.mark.parametrize("before", [0, 1, 5, 11, 40])
@pytest.mark.parametrize("after", [0, 1, 9])
def test_thirty_two_times_are_a_repetition_and_a_token_less_is_none(dtype, period, before, after):
    run = distinct(period, 1) * 32
    enough = distinct(before) + run + distinct(after, 3000)
    assert has_repetition(np.array(enough, dtype)) and by_hand(enough)
    short = distinct(before) + run[:-1] + distinct(after, 3000)
    assert not has_repetition(np.array(short, dtype)) and not by_hand(short)


def test_a_run_may_begin_and_end_within_the_n_gram():
    run = (distinct(5, 1) * 33)[3:]
    assert len(run) == 162 and has_repetition(np.array(distinct(4) + run[:160] + distinct(2, 3000)))
    assert not has_repetition(np.array(distinct(4) + run[:159] + distinct(2, 3000)))


def test_a_period_beyond_the_longest_is_none():
    assert not has_repetition(np.array(distinct(14, 1) * 40))
    assert has_repetition(np.array(distinct(14, 1) * 40), max_period=14)
    assert has_repetition(np.array(distinct(13, 1) * 32))


@pytest.mark.parametrize("length", [0, 1, 31])
def test_what_is_shorter_than_the_count_is_none(length):
    assert not has_repetition(np.zeros(length, np.uint16))


def test_runs_do_not_go_on_in_the_next_row():
    ids = np.arange(4 * 64, dtype=np.uint16).reshape(4, 64)
    ids[0, -20:] = ids[1, :20] = 7
    assert not repeated_rows(ids).any()
    ids[2, -32:] = ids[3, 1:20] = 9
    assert repeated_rows(ids).tolist() == [False, False, True, False]
    assert repeated_rows(ids[:, :-1]).tolist() == [False] * 4  # the 32nd is cut off


def test_rows_of_a_wider_array_are_taken_as_they_lie():
    wide = np.arange(3 * 100, dtype=np.uint16).reshape(3, 100)
    wide[1, 10:42] = 5
    view = wide[:, 1:]
    assert not view.flags.c_contiguous and repeated_rows(view).tolist() == [False, True, False]


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=4), st.integers(1, 9)), max_size=12),
    st.integers(1, 4),
    st.integers(2, 9),
    st.sampled_from(DTYPES),
)
def test_texts_of_few_ids_as_by_hand(parts, max_period, min_count, dtype):
    ids = [token for gram, times in parts for token in gram * times]
    found = has_repetition(np.array(ids, dtype), max_period, min_count)
    assert found == by_hand(ids, max_period, min_count)


@given(st.integers(0, 2**32 - 1))
def test_long_rows_with_runs_about_the_limit_as_by_hand(seed):
    random = np.random.default_rng(seed)
    rows = random.integers(0, 50, (3, 700))
    for row in rows:
        period, times = int(random.integers(1, 15)), int(random.integers(30, 34))
        run = np.tile(random.integers(0, 50, period), times)[: -int(random.integers(1, period + 1))]
        start = int(random.integers(0, 700 - len(run)))
        row[start : start + len(run)] = run
    assert repeated_rows(rows).tolist() == [by_hand(row) for row in rows.tolist()]

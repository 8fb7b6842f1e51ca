"""Which settings are tried, when a series ends, and who wins."""

import pytest

from lightning_polycom.benchmarking import candidates
from lightning_polycom.benchmarking.candidates import Candidate, Trial, micro_batch_sizes
from lightning_polycom.errors import InputError


def trial(size: int, speed: float | None) -> Trial:
    left_out = None if speed else "out of memory"
    return Trial(Candidate("32-true", False, size), speed, None, None, left_out)


@pytest.mark.parametrize(
    ("sequences", "own", "expected"),
    [(64, 8, [1, 2, 4, 8, 16, 32, 64]), (12, 3, [1, 2, 3, 4, 12]), (15, 4, [1, 3, 15]), (7, 7, [1, 7]), (1, 1, [1])],
)
def test_sizes_double_through_the_divisors(sequences, own, expected):
    assert micro_batch_sizes(sequences, own, None) == expected


def test_given_sizes_are_tried_and_no_others():
    assert micro_batch_sizes(12, 1, [6, 2, 6]) == [2, 6]
    with pytest.raises(InputError, match="micro_batch_sizes: 5 does not divide the 12 sequences"):
        micro_batch_sizes(12, 1, [6, 5])


def test_a_candidate_is_options_of_fit():
    assert Candidate("bf16-mixed", True, 8).options == [
        "--data.micro_batch_size", "8", "--trainer.precision", "bf16-mixed", "--model.compile", "true",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [([10, 9], False), ([10, 9, 10], True), ([10, 9, 10.2], False), ([5, 10, 10, 10], True), ([5, 10, 9, 11], False)],
)
def test_two_larger_sizes_that_bring_nothing_end_a_series(speeds, expected):
    assert candidates.brings_nothing([trial(2**n, speed) for n, speed in enumerate(speeds)]) is expected


def test_the_fastest_wins_and_what_was_left_out_does_not():
    trials = [trial(1, 5.0), trial(2, 7.0), trial(4, None)]
    assert candidates.best(trials) is trials[1]
    with pytest.raises(InputError, match="nothing that was tried could be trained: out of memory"):
        candidates.best([trial(1, None)])


def test_those_close_to_the_fastest_are_contenders():
    trials = [trial(1, 89.0), trial(2, 95.0), trial(4, 100.0), trial(8, 91.0), trial(16, 90.0), trial(32, None)]
    assert [t.candidate.micro_batch_size for t in candidates.contenders(trials)] == [4, 2, 8]
    assert candidates.contenders([trial(1, 89.0), trial(2, 100.0)]) == []
    assert candidates.contenders([trial(1, None)]) == []
    assert candidates.faster(trials[0], trials[5]) is trials[0] and candidates.faster(trials[0], trials[1]) is trials[1]

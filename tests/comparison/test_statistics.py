"""Intervals, p values and their correction on differences whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from lightning_polycom.comparison.statistics import holm, mean_and_spread, paired_difference, pooled_p_values


def coverage(differences: np.ndarray, truth: float) -> float:
    """The share of rows whose interval holds the truth."""
    found = [paired_difference(row, np.zeros_like(row)) for row in differences]
    return float(np.mean([abs(d.mean - truth) <= d.half_width for d in found]))


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_of_few_seeds_hold_as_often_as_they_say(seeds):
    differences = np.random.default_rng(seeds).normal(-0.02, 0.005, (2500, seeds))
    assert coverage(differences, -0.02) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("seeds", [10, 20])
def test_the_bootstrap_holds_without_a_normal_distribution(seeds):
    draw = np.random.default_rng(seeds)
    for name, differences in (
        ("normal", draw.normal(0, 1, (250, seeds))),
        ("heavy tails", draw.standard_t(4, (250, seeds))),
        ("skewed", draw.gamma(4, 1, (250, seeds)) - 4),
    ):
        assert 0.9 <= coverage(differences, 0.0) <= 0.99, name
        assert {paired_difference(row, 0 * row).method for row in differences[:3]} == {"bootstrap"}


def test_p_values_agree_with_their_intervals():
    draw = np.random.default_rng(1)
    for seeds in (3, 12):
        for row in draw.normal(0.5, 1, (100, seeds)):
            found = paired_difference(row, 0 * row)
            assert found.excludes_zero == (found.p_value < 0.05)


def test_few_seeds_agree_with_the_paired_t_test():
    ours, theirs = np.random.default_rng(2).normal(0, 1, (2, 5))
    found, reference = paired_difference(ours, theirs), stats.ttest_rel(ours, theirs)
    low, high = reference.confidence_interval(0.95)
    assert found.p_value == pytest.approx(reference.pvalue)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))


def test_pairing_finds_what_unpaired_seeds_hide():
    draw, paired, unpaired = np.random.default_rng(3), [], []
    for _ in range(300):
        seed_effect = draw.normal(4, 0.03, 5)  # what seeds share: batches and initial weights
        baseline = seed_effect + draw.normal(0, 0.004, 5)
        arm = seed_effect - 0.02 + draw.normal(0, 0.004, 5)
        paired.append(paired_difference(arm, baseline).p_value < 0.05)
        unpaired.append(stats.ttest_ind(arm, baseline, equal_var=False).pvalue < 0.05)
    assert np.mean(paired) > 0.95
    assert np.mean(unpaired) < 0.3


def test_false_positives_over_five_arms_stay_below_five_percent():
    draw, raw, corrected = np.random.default_rng(4), 0, 0
    families = 1500
    for _ in range(families):
        baseline = draw.normal(4, 0.03, 3)  # shared by the arms, as in a report
        arms = [baseline + draw.normal(0, 0.005, 3) for _ in range(5)]
        p_values = [paired_difference(arm, baseline).p_value for arm in arms]
        raw += min(p_values) < 0.05
        corrected += min(holm(p_values)) < 0.05
    assert raw / families > 0.18
    assert corrected / families < 0.062


def test_noise_pooled_over_arms_finds_more_at_the_same_rate_of_false_positives():
    draw, false, found, alone = np.random.default_rng(5), 0, 0, 0
    families, effect = 600, np.array([[0.0], [0.0], [0.0], [0.0], [0.0], [0.015]])
    for _ in range(families):
        losses = draw.normal(4, 0.03, (1, 3)) + draw.normal(0, 0.005, (6, 3))
        false += min(holm(pooled_p_values(losses))) < 0.05
        moved = losses + effect
        found += holm(pooled_p_values(moved))[-1] < 0.05
        alone += holm([paired_difference(arm, moved[0]).p_value for arm in moved[1:]])[-1] < 0.05
    assert false / families < 0.07
    assert found / families > 0.6 > 0.2 > alone / families


def test_pooled_noise_of_two_arms_or_one_seed_is_no_more():
    assert pooled_p_values(np.array([[4.0, 4.1], [3.9, 4.2]])) == [None]
    assert pooled_p_values(np.array([[4.0], [3.9], [3.8]])) == [None, None]
    same = np.array([[4.0, 4.1], [3.9, 4.0], [3.8, 3.9]])
    assert pooled_p_values(same) == [None, None]  # no noise at all


def test_holm_is_the_published_procedure():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([None, 0.02, None]) == [None, 0.02, None]
    assert holm([]) == []


def test_what_has_no_spread_has_no_interval():
    assert paired_difference([], []) is None
    one = paired_difference([3.9], [4.0])
    assert (one.half_width, one.p_value, one.method, one.excludes_zero) == (None, None, "none", False)
    same = paired_difference([0.31, 0.33, 0.35], [0.30, 0.32, 0.34])  # one question more, each time
    assert same.mean == pytest.approx(0.01)
    assert (same.half_width, same.p_value, same.method) == (None, None, "none")


def test_mean_and_spread():
    assert mean_and_spread([1.0]) == (1.0, None)
    assert mean_and_spread([1.0, 3.0]) == pytest.approx((2.0, 2**0.5))

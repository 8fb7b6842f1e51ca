"""What is found on runs with known truth, and how it is said."""

import math

import numpy as np
import pytest
from synthetic_runs import FLOPS_PER_TOKEN, STEPS, TOKENS_PER_STEP, write_comparison, write_run

from lightning_polycom.comparison.arms import check_arms
from lightning_polycom.comparison.gathering import gather
from lightning_polycom.comparison.results import results_of
from lightning_polycom.comparison.sentences import sentence, verdict

SEEDS = np.array([4.0, 4.03, 3.97])


def results_from(*paths, equal="parameters"):
    arms = check_arms(gather(list(map(str, paths))).runs, None, equal)
    results = results_of(arms)
    return results, {r.name: sentence(r, results[0], arms.measure, len(results) - 1) for r in results[1:]}


def test_known_differences_are_found(tmp_path):
    noise = np.array([0.001, -0.001, 0.0])
    losses = {"base": SEEDS, "better": SEEDS - 0.05 + noise, "equal": SEEDS + 3 * noise, "worse": SEEDS + 0.02 - noise}
    folder = write_comparison(tmp_path / "c", {name: list(values) for name, values in losses.items()}, "base")
    results, sentences = results_from(folder)
    assert {r.name: verdict(r) for r in results[1:]} == {"better": "better", "equal": "open", "worse": "worse"}
    better, equal, worse = results[1:]
    assert better.difference.mean == pytest.approx(-0.05)
    assert better.difference.half_width == pytest.approx(4.3027 * 0.001 / 3**0.5, rel=1e-3)
    assert worse.difference.mean == pytest.approx(0.02)
    assert sentences["better"].startswith(
        "better by 0.0500 ± 0.0025 nats over 3 seeds, p < 0.001; comes down to base's"
    )
    assert "no difference found: 0.0000 ± 0.0075 nats" in sentences["equal"]
    assert sentences["worse"].startswith("worse by 0.0200 ± 0.0025 nats over 3 seeds, p = 0.002; does not come down to")
    assert all(r.p_value >= r.difference.p_value for r in (better, equal, worse))


def test_tokens_to_the_final_loss_follow_the_curve(tmp_path):
    gain = 0.05
    write_run(tmp_path / "a_1/v0", "a", 1, 4.0)
    write_run(tmp_path / "b_1/v0", "b", 1, 4.0 - gain, speed=25_000.0)
    (_, better), _ = results_from(tmp_path / "a_1", tmp_path / "b_1")
    # final + 2 ((1 + s)^-1/2 - (1 + S)^-1/2) is down at final + gain at this step:
    step = (gain / 2 + (1 + STEPS) ** -0.5) ** -2 - 1
    tokens = better.reach["tokens"]
    assert tokens.place == pytest.approx(step * TOKENS_PER_STEP, rel=0.01)
    assert better.reach["flops"].place == pytest.approx(tokens.place * FLOPS_PER_TOKEN)
    assert better.reach["seconds"].place == pytest.approx(tokens.place / 25_000)
    assert better.reach["seconds"].ratio == pytest.approx(2 * tokens.ratio)


def test_a_slow_arm_can_lose_at_equal_time_what_it_wins_at_equal_tokens(tmp_path):
    for seed, loss in enumerate(SEEDS, 1):
        write_run(tmp_path / f"a_{seed}/v0", "a", seed, loss)
        jitter = 0.0003 * seed
        write_run(tmp_path / f"b_{seed}/v0", "b", seed, loss - 0.02 + jitter, speed=25_000.0 + 30 * seed)
    paths = [tmp_path / f"{name}_{seed}" for name in "ab" for seed in (1, 2, 3)]
    (_, slow), sentences = results_from(*paths)
    assert slow.at_equal["tokens"] == slow.difference and slow.difference.mean < 0
    half = 2 * ((1 + STEPS / 2) ** -0.5 - (1 + STEPS) ** -0.5)
    assert slow.at_equal["seconds"].mean == pytest.approx(half - 0.02, abs=0.002)
    assert math.expm1(slow.slowdown.mean) == pytest.approx(1, abs=0.01)
    assert "100% slower per token" in sentences["b"] and "at equal time worse by 0.0" in sentences["b"]


def test_runs_of_equal_time_are_compared_at_their_ends(tmp_path):
    write_run(tmp_path / "a_1/v0", "a", 1, 4.0)
    write_run(tmp_path / "b_1/v0", "b", 1, 4.0, steps=50, speed=25_000.0)
    (_, slow), _ = results_from(tmp_path / "a_1", tmp_path / "b_1", equal="time")
    assert slow.at_equal["seconds"] == slow.difference
    assert slow.at_equal["tokens"].mean == pytest.approx(0, abs=1e-9)


def test_one_seed_is_said_to_be_one(tmp_path):
    write_run(tmp_path / "a_1/v0", "a", 1, 4.0)
    write_run(tmp_path / "b_1/v0", "b", 1, 3.9)
    results, sentences = results_from(tmp_path / "a_1", tmp_path / "b_1")
    assert "loss lower by 0.1000 nats in the one seed there is, which cannot tell" in sentences["b"]
    assert verdict(results[1]) == "open" and results[1].p_value is None


def test_what_correction_undoes_is_not_called_established(tmp_path):
    noise = {name: np.array([0.004, -0.004, 0.001]) * (1 + n / 10) for n, name in enumerate("bcdef")}
    losses = {"a": list(SEEDS)} | {name: list(SEEDS - 0.012 + values) for name, values in noise.items()}
    results, sentences = results_from(write_comparison(tmp_path / "c", losses, "a"))
    first = results[1]
    assert first.difference.excludes_zero and first.difference.p_value < 0.05 < first.p_value
    assert "corrected for 5 arms: not established (p < 0.001 if all" in sentences["b"] and verdict(first) == "open"
    assert first.p_pooled < 0.05


def test_times_of_different_machines_are_not_compared(tmp_path):
    write_run(tmp_path / "a_1/v0", "a", 1, 4.0)
    write_run(tmp_path / "b_1/v0", "b", 1, 3.9, record={"device": "another machine"})
    (_, other), sentences = results_from(tmp_path / "a_1", tmp_path / "b_1")
    assert other.slowdown is None and other.at_equal["seconds"] is None and other.reach["seconds"].count == 0
    assert "speeds not comparable" in sentences["b"] and "equal time" not in sentences["b"]


def test_the_best_learning_rate_of_each_arm_is_compared(tmp_path):
    grid = {"a": {0.001: 4.0, 0.002: 3.9}, "b": {0.001: 3.95, 0.002: 4.2}}
    paths = []
    for arm, rates in grid.items():
        for rate, loss in rates.items():
            for seed in (1, 2):
                folder = tmp_path / f"{arm}-{rate}-{seed}"
                write_run(folder, arm, seed, loss + seed / 100, learning_rate=rate)
                paths.append(f"{arm}={folder}")
    write_run(tmp_path / "lucky", "b", 1, 3.0, learning_rate=0.004)  # without its second seed it is not chosen
    results, _ = results_from(*paths, f"b={tmp_path / 'lucky'}")
    assert [{run.learning_rate for run in result.runs} for result in results] == [{0.002}, {0.001}]
    assert results[1].difference.values == pytest.approx((0.05, 0.05))
    assert set(results[1].rates) == {0.001, 0.002, 0.004}


def test_a_pair_with_an_unfinished_run_is_left_out_and_named(tmp_path):
    for seed in (1, 2, 3):
        write_run(tmp_path / f"a_{seed}/v0", "a", seed, 4.0)
        status, steps = ("running", 40) if seed == 2 else ("finished", STEPS)
        write_run(tmp_path / f"b_{seed}/v0", "b", seed, 3.9 + seed / 1000, status=status, steps=steps)
    results, sentences = results_from(*(tmp_path / f"{name}_{seed}" for name in "ab" for seed in (1, 2, 3)))
    assert results[1].difference.values == pytest.approx((-0.099, -0.097))
    assert sentences["b"].endswith("Left out: seed 2 (unfinished).")

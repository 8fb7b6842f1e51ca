import itertools

import pytest

from lightning_polycom.errors import InputError
from lightning_polycom.training.schedules import ScheduleConfig, build_schedule


def factors(config: ScheduleConfig, total: int = 100, tokens_per_step: int = 10) -> list[float]:
    schedule = build_schedule(config, total, tokens_per_step)
    return [schedule(step) for step in range(total + 1)]


def test_cosine_rises_linearly_and_falls_to_the_final_fraction():
    values = factors(ScheduleConfig("cosine", warmup_steps=10, final_fraction=0.1))
    assert values[:10] == pytest.approx([(n + 1) / 10 for n in range(10)])
    assert values[10] == pytest.approx(1.0)
    assert values[55] == pytest.approx(0.55)
    assert values[100] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(values[10:]))


def test_a_cosine_may_be_longer_than_the_run_or_end_before_it():
    long = factors(ScheduleConfig("cosine", warmup_steps=10, decay_steps=180, final_fraction=0.1))
    assert long[100] == pytest.approx(0.55)
    short = factors(ScheduleConfig("cosine", warmup_tokens=100, decay_tokens=450, final_fraction=0.1))
    assert short[55:] == pytest.approx([0.1] * 46) and short[32] > 0.5


def test_wsd_stays_then_decays_linearly():
    values = factors(ScheduleConfig("wsd", warmup_steps=5, decay_steps=20, final_fraction=0.0))
    assert values[5:81] == pytest.approx([1.0] * 76)
    assert values[90] == pytest.approx(0.5)
    assert values[100] == pytest.approx(0.0)


def test_lengths_in_tokens_round_up_to_steps():
    in_steps = factors(ScheduleConfig("wsd", warmup_steps=3, decay_steps=7))
    assert factors(ScheduleConfig("wsd", warmup_tokens=25, decay_tokens=61)) == in_steps


def test_constant_needs_no_end():
    schedule = build_schedule(ScheduleConfig("constant", warmup_steps=2), -1, 10)
    assert [schedule(n) for n in (0, 1, 2, 10_000)] == [0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("config", "total", "message"),
    [
        (ScheduleConfig(warmup_steps=1, warmup_tokens=1), 10, "schedule.warmup_steps: warmup_tokens is given too"),
        (ScheduleConfig(warmup_steps=11), 10, "warm-up and decay take 11 steps, the run has 10"),
        (ScheduleConfig("cosine"), -1, "must know where training ends; set trainer.max_steps or data.max_tokens"),
    ],
)
def test_impossible_schedules_are_refused(config, total, message):
    with pytest.raises(InputError, match=message):
        build_schedule(config, total, 10)

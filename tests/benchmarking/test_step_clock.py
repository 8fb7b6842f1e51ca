"""Which spans of a step are counted as what, on clocks that only the step itself moves."""

from types import SimpleNamespace

import pytest
import torch

from lightning_polycom.benchmarking import step_clock
from lightning_polycom.benchmarking.step_clock import WARM_UP, StepClock, StepTimes


@pytest.fixture(params=["cpu", "cuda"])
def world(request, monkeypatch) -> SimpleNamespace:
    """A clock that stands still by itself, of a host or of a GPU's stream."""
    found = SimpleNamespace(now=0.0, device=request.param)

    class Event:
        def __init__(self, enable_timing: bool):
            assert enable_timing

        def record(self):
            self.at = found.now

        def elapsed_time(self, end: "Event") -> float:
            return (end.at - self.at) * 1000

    monkeypatch.setattr(step_clock.time, "perf_counter", lambda: found.now)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    return found


def train(clock: StepClock, world: SimpleNamespace, micro_batches: int, forward: list[float]) -> int:
    """Steps in the order of Lightning's hooks until the clock ends them; their number."""
    trainer = SimpleNamespace(global_step=0, should_stop=False)
    while not trainer.should_stop:
        seconds = forward[min(trainer.global_step, len(forward) - 1)]
        for micro_batch in range(micro_batches):
            world.now += 0.5  # the loop, and the data
            clock.on_train_batch_start(trainer, None)
            world.now += seconds
            clock.on_before_backward(trainer, None)
            world.now += 2 * seconds
            clock.on_after_backward(trainer, None)
            if micro_batch == micro_batches - 1:
                clock.on_before_optimizer_step(trainer, None)
                world.now += 0.25
                trainer.global_step += 1
            clock.on_train_batch_end(trainer, None)
    return trainer.global_step


def test_parts_are_medians_over_steps_after_the_warm_up(world):
    clock, warm = StepClock(world.device, 3), WARM_UP[world.device]
    steps = train(clock, world, 2, [100.0] * warm + [1.0, 3.0, 2.0])
    assert steps == warm + 3
    found = clock.times()
    assert found == pytest.approx(StepTimes(2 * 3 * 2.0 + 2 * 0.5 + 0.25, 4.0, 8.0, 0.25, 3))
    assert found.rest == pytest.approx(1.0)


def test_slow_steps_end_after_a_minute_but_one_counts(world):
    clock = StepClock(world.device, 100)
    assert train(clock, world, 1, [50.0]) == WARM_UP[world.device] + 1
    assert clock.times().steps == 1


def test_more_micro_batches_repeat_all_but_the_optimizer():
    found = StepTimes(10.0, 2.0, 4.0, 3.0, 5).scaled(2, 8)
    assert found == pytest.approx(StepTimes(4 * (2 + 4 + 1) + 3, 8.0, 16.0, 3.0, 5))
    assert found.rest == pytest.approx(4.0)

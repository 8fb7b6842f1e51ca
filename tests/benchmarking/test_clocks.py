"""What the clocks count and what they leave out, on clocks that only the measured functions move."""

import pytest
import torch

from lightning_polycom.activations import build_activation
from lightning_polycom.benchmarking import cpu_timing, gpu_timing
from lightning_polycom.benchmarking.ways import way_of


class World:
    """A clock and a count of page faults."""

    def __init__(self):
        self.now, self.faults, self.runs = 0.0, 0, 0


@pytest.fixture
def world(monkeypatch) -> World:
    found = World()
    monkeypatch.setattr(cpu_timing.time, "thread_time", lambda: found.now)
    monkeypatch.setattr(cpu_timing, "_page_faults", lambda: found.faults)
    return found


def runner(world: World, seconds: list[float], faults: list[int]):
    """A function whose runs take the listed seconds and faults, and then the last of them."""

    def run():
        index = min(world.runs, len(seconds) - 1)
        world.now += seconds[index]
        world.faults += faults[index]
        world.runs += 1

    return run


def test_the_best_repetition_without_page_faults_counts(world):
    run = runner(world, [9, 9, 1, 1, 1, 3, 2, 4, 2.5], [900, 900, 900, 300, 200, 199, 0, 0, 0])
    assert cpu_timing.best_seconds(run, 3) == (2, None, None, True)
    assert world.runs == 8


def test_without_a_quiet_repetition_the_best_of_all_is_marked(world):
    times = cpu_timing.best_seconds(runner(world, [0, 0, 0.3, 0.1, 0.2], [500] * 5), 5)
    assert times.both == pytest.approx(0.1) and not times.settled
    assert world.runs == cpu_timing.WARM_UP + cpu_timing.MAX_TRIES


def test_slow_things_end(world):
    times = cpu_timing.best_seconds(runner(world, [50], [500]), 3)
    assert times.both == 50 and world.runs == cpu_timing.WARM_UP + 3


def test_page_faults_of_a_fresh_tensor_are_seen():
    before = cpu_timing._page_faults()
    torch.ones(2**24)
    assert cpu_timing._page_faults() - before > 0


def test_the_cpu_clock_takes_the_gradients(world):
    x, g = torch.randn(4, 8).requires_grad_(), torch.randn(4, 8)
    wanted = []
    way = way_of("module", build_activation("polynorm"))
    way.trained[0].register_hook(lambda gradient: wanted.append(gradient.shape))
    assert cpu_timing.CpuClock(2).times(way, [x], g).settled
    assert wanted == [torch.Size([3])] * (cpu_timing.WARM_UP + 2)
    assert cpu_timing.CpuClock(1).yardstick(x.detach(), g).settled


@pytest.fixture
def device(monkeypatch) -> World:
    """A GPU's clock: events read it, the flush moves it on by 1000 seconds."""
    found = World()

    class Event:
        def __init__(self, enable_timing: bool):
            assert enable_timing

        def record(self):
            self.at = found.now

        def elapsed_time(self, end: "Event") -> float:
            return (end.at - self.at) * 1000

    class Buffer:
        def zero_(self):
            found.now += 1000

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(gpu_timing.torch, "empty", lambda *sizes, **options: Buffer())
    return found


def test_the_median_leaves_out_flush_preparation_and_warm_up(device):
    seconds, given = [99] * gpu_timing.WARM_UP + [1, 5, 2], []

    def before() -> int:
        device.now += 77
        device.runs += 1
        return device.runs

    def run(value: int) -> None:
        given.append(value)
        device.now += seconds[len(given) - 1]

    assert gpu_timing.GpuClock(3).median_seconds(run, before) == pytest.approx(2)
    assert given == list(range(1, gpu_timing.WARM_UP + 4))
    assert device.now == sum(seconds) + len(seconds) * (77 + 1000 * gpu_timing.FLUSHES)


def test_forward_and_backward_are_timed_apart_and_together(device, monkeypatch):
    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            device.now += 2
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            device.now += 3
            return g

    way = way_of("module", build_activation("relu"))._replace(run=Slow.apply)
    times = gpu_timing.GpuClock(2).times(way, [torch.ones(3, 4).requires_grad_()], torch.ones(3, 4))
    assert times == pytest.approx((5, 2, 3, True))

"""Verdicts of the step guard against the same rule written with Python's statistics."""

import math
import random
import statistics

import pytest
import torch

from lightning_polycom.training.optimizers import OptimizerConfig, build_optimizer
from lightning_polycom.training.step_guard import SkipStepsConfig, StepGuard, over_ranks

NAN, INF = math.nan, math.inf


def judge(guard: StepGuard, loss: float, norm: float, step: int) -> bool:
    return bool(guard.judge(torch.tensor(loss), torch.tensor(norm), step))


def stream(length: int) -> list[tuple[float, float]]:
    """Falling losses and their norms with a spike, or a value that is not finite, now and then."""
    draw = random.Random(5)
    values = []
    for step in range(length):
        loss, norm = 9 - 0.01 * step + draw.gauss(0, 0.1), 1 + draw.gauss(0, 0.1)
        kind = draw.random()
        values.append((loss + 30 * (kind < 0.03), norm + 20 * (0.03 <= kind < 0.06) + (INF if kind > 0.98 else 0)))
    return values


@pytest.mark.parametrize("values", [(NAN, 1.0), (INF, 1.0), (1.0, NAN), (1.0, INF), (-INF, NAN)])
@pytest.mark.parametrize("sigma", [None, 6.0])
def test_what_is_not_finite_is_skipped_and_finite_steps_are_not(values, sigma):
    guard = StepGuard(SkipStepsConfig(sigma=sigma))
    assert [judge(guard, *v, step) for step, v in enumerate([(1.0, 1.0), values, values, (1.0, 1e30)], 1)] == [
        False, True, True, False
    ]  # fmt: skip
    found = guard.read()
    assert (found.total, found.in_a_row, [step.step for step in found.new]) == (2, 0, [2, 3])
    assert all("not finite" in step.reason for step in found.new)
    assert guard.read().new == []


def test_spikes_are_those_of_the_rule_over_applied_steps():
    config = SkipStepsConfig(sigma=4.0, window=16)
    guard, applied, expected, found = StepGuard(config), [], [], []
    for step, values in enumerate(stream(400), 1):
        found.append(judge(guard, *values, step))
        window = applied[-16:]
        limits = [INF, INF]
        if len(window) >= 8:
            limits = [statistics.mean(part) + 4 * statistics.stdev(part) for part in zip(*window, strict=True)]
        expected.append(not all(math.isfinite(v) and v <= limit for v, limit in zip(values, limits, strict=True)))
        if not expected[-1]:
            applied.append(values)
    assert found == expected and 10 < sum(expected) < 60
    skipped = guard.read()
    assert skipped.total == sum(expected)
    assert {step.reason for step in skipped.new} == {
        "the loss is a spike", "the gradient norm is a spike", "the gradient norm is not finite"
    }  # fmt: skip


def test_state_goes_on_bit_for_bit_and_a_window_of_another_length_keeps_the_newest():
    config, values = SkipStepsConfig(sigma=4.0, window=16), stream(60)
    straight, begun, resumed = (StepGuard(config) for _ in range(3))
    for step, pair in enumerate(values[:30]):
        assert judge(straight, *pair, step) == judge(begun, *pair, step)
    resumed.load_state_dict(begun.state_dict())
    for step, pair in enumerate(values[30:], 30):
        assert judge(straight, *pair, step) == judge(resumed, *pair, step)
    state = straight.state_dict()
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in state.items())

    for length in (8, 20):
        other = StepGuard(SkipStepsConfig(sigma=4.0, window=length))
        other.load_state_dict(state)
        kept = min(length, 16)
        assert torch.equal(other.state_dict()["window"][-kept:], state["window"][-kept:])
        assert other.state_dict()["window"].isfinite().all(1).sum() == kept
        assert other.read().total == straight.read().total
    other = StepGuard(config)
    other.load_state_dict({})
    assert other.read().total == 0


def test_a_skipped_step_leaves_weights_moments_and_step_and_an_applied_one_is_as_without_the_guard():
    torch.manual_seed(0)
    plain, guarded = torch.nn.Linear(7, 5), torch.nn.Linear(7, 5)
    guarded.load_state_dict(plain.state_dict())
    optimizers = [build_optimizer(OptimizerConfig(learning_rate=0.1), module) for module in (plain, guarded)]
    for step in range(6):
        gradients = [torch.randn_like(p) for p in plain.parameters()]
        if step in (0, 3):  # a run's first step too, before there are moments
            for p in guarded.parameters():
                p.grad = torch.full_like(p, NAN)
            optimizers[1].found_inf = torch.tensor(1.0)
            optimizers[1].step()
        for module in (plain, guarded):
            for p, gradient in zip(module.parameters(), gradients, strict=True):
                p.grad = gradient.clone()
        optimizers[1].found_inf = torch.tensor(0.0)
        for optimizer in optimizers:
            optimizer.step()
        for one, other in zip(plain.parameters(), guarded.parameters(), strict=True):
            assert torch.equal(one, other)
            for key, value in optimizers[0].state[one].items():
                assert torch.equal(value, optimizers[1].state[other][key]), key


def test_one_device_exchanges_nothing():
    sums, norm = torch.rand(2), torch.rand(())
    found = over_ranks(sums, norm, 1)
    assert found[0] is sums and found[1] is norm

"""Shares of a step: every moment has one part, and they add up."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch.profiler import profile, record_function

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.benchmarking.step_profile.profiled_fit import profiled_fit
from lightning_polycom.benchmarking.step_profile.scopes import name_modules, named_functions
from lightning_polycom.benchmarking.step_profile.shares import costliest, device_shares, host_shares
from lightning_polycom.benchmarking.training_step.contenders import Case
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.linear_cross_entropy import read_loss


def event(name, start, end, parent=None, sequence=-1, kernels=()):
    made = SimpleNamespace(
        name=name,
        time_range=SimpleNamespace(start=start, end=end),
        self_cpu_time_total=end - start,
        cpu_parent=parent,
        cpu_children=[],
        thread=1,
        is_async=False,
        sequence_nr=sequence,
        kernels=list(kernels),
    )
    if parent is not None:
        parent.cpu_children.append(made)
        parent.self_cpu_time_total -= end - start
    return made


def trace():
    scope = event("part:activation", 0, 30)
    forward = event("aten::mul", 10, 30, scope, sequence=5)
    node = event("autograd::engine::evaluate_function: MulBackward0", 40, 60, sequence=5)
    inner = event("aten::mul", 45, 60, node)
    product = event("aten::mm", 60, 90)
    callback = event("[Callback]Throughput.on_train_batch_end", 90, 95)
    other_thread = event("aten::mm", 0, 1000)
    other_thread.thread = 2
    return [scope, forward, node, inner, product, callback, other_thread]


def test_a_gradient_belongs_to_its_operation_and_the_rest_to_the_loop():
    shares = host_shares(trace(), thread=1, wall_seconds=100e-6, steps=2)
    found = {part: round(seconds * 2e6) for part, seconds in shares.seconds.items()}
    assert found == {"matrix products": 30, "activation": 50, "framework": 20}
    assert sum(shares.seconds.values()) == pytest.approx(shares.total) == pytest.approx(50e-6)
    assert "100.0%" in shares.lines()[-1]


def test_kernels_count_for_what_launched_them():
    kernel = SimpleNamespace(name="vectorized_elementwise", duration=25)
    events = [event("part:loss", 0, 10)]
    events.append(event("aten::exp", 2, 4, events[0], kernels=[kernel]))
    shares = device_shares(events, wall_seconds=100e-6, steps=1)
    assert {part: round(1e6 * s) for part, s in shares.seconds.items()} == {"loss": 25, "device idle": 75}
    assert "vectorized_elementwise" in costliest(events, 1, 5, on_device=True)[0]


@pytest.mark.parametrize("activation", ["swiglu", "polynorm"])
def test_the_parts_of_a_real_decoder_are_found(activation):
    decoder = Decoder(DecoderConfig(64, 16, 2, 2, 48, ActivationConfig(activation), max_sequence_length=16))
    name_modules(decoder)
    ids = torch.arange(16)[None]
    with (
        named_functions(compiled=False),
        profile() as profiled,
        record_function("[Strategy]SingleDeviceStrategy.backward"),
    ):
        decoder(ids, read=read_loss(ids)).total.backward()
    thread = next(e.thread for e in profiled.events() if e.name == "aten::mm")
    shares = host_shares(profiled.events(), thread, wall_seconds=1.0, steps=1)
    assert {"matrix products", "attention", "activation", "norms and RoPE", "loss", "other"} <= set(shares.seconds)
    assert sum(shares.seconds.values()) == pytest.approx(1.0)


@pytest.mark.slow
def test_a_real_run_is_profiled_and_adds_up(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest"])
    found = profiled_fit(Case("fit", "tiny"), prepared, tmp_path, steps=10)
    shares = host_shares(found.events, found.thread, found.seconds, found.steps)
    parts = {"matrix products", "attention", "activation", "norms and RoPE", "loss", "optimizer", "data", "framework"}
    assert parts <= set(shares.seconds)
    assert all(seconds > 0 for seconds in shares.seconds.values())
    assert sum(shares.seconds.values()) == pytest.approx(found.seconds / 10)

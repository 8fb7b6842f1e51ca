"""Inputs that do not fit are one line; second derivatives are refused, not wrong; backward keeps the inputs."""

import pytest
import torch

from lightning_polycom.activations import ACTIVATIONS, build_activation
from lightning_polycom.errors import InputError

GATED = [name for name, cls in ACTIVATIONS.items() if cls.gated]
OFFSETS = torch.tensor([1, 4], dtype=torch.int32)


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("polynorm_glu", [(4, 8)], "found one input; give gate and up"),
        ("polynorm", [(4, 8), (4, 8)], "found two inputs; it is not gated, give one"),
        (
            "polynorm_glu",
            [(4, 8), (1, 8)],
            r"found gate \(4, 8\) torch.float32, up \(1, 8\) torch.float32; make them alike",
        ),
        ("polyrelu_glu", [(4, 8), (4, 4)], "make them alike"),
        ("polyrelu", [()], "found a single number; give at least one dimension"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(name, inputs, message):
    with pytest.raises(InputError, match=message) as caught:
        build_activation(name)(*(torch.ones(shape) for shape in inputs))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", GATED)
def test_integers_in_the_up_branch_are_refused(name):
    with pytest.raises(InputError, match=r"found input of dtype torch\.int64"):
        build_activation(name)(torch.ones(2, 3), torch.ones(2, 3, dtype=torch.int64))


@pytest.mark.parametrize("offsets", [OFFSETS, torch.tensor([1, 2, 3, 4]), torch.tensor([1.0, 2.0, 4.0])])
def test_offsets_that_do_not_fit_the_experts_are_refused(offsets):
    module = build_activation("polynorm", scope="expert", num_experts=3)
    with pytest.raises(InputError, match=r"found offsets .*; give \(3,\), int32 or int64"):
        module(torch.ones(4, 8), offsets=offsets)


def test_a_second_derivative_is_refused():
    x = torch.randn(3, 4, requires_grad=True)
    y = build_activation("polynorm")(x)
    with pytest.raises(RuntimeError, match="polynomial activations can be differentiated once"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_backward_keeps_as_many_tensors_of_their_size_as_there_are_inputs(name):
    kept, module = [], build_activation(name)
    x = [torch.randn(16, 256, requires_grad=True) for _ in range(1 + module.gated)]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = module(*x)
    large = {t.data_ptr() for t in kept if t.numel() >= y.numel()}
    assert len(large) == len(x)
    assert name in ("relu", "relu2") or large == {t.data_ptr() for t in x}  # those two keep max(x, 0)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("coefficients", (float("nan"), 0.0, 0.0)),
        ("learning_rate_multiplier", float("nan")),
        ("output_scale", 0.0),
        ("output_scale", float("inf")),
        ("bias_limit", float("nan")),
        ("order", 2.0),
        ("order", True),
    ],
)
def test_options_without_meaning_are_refused(option, value):
    with pytest.raises(InputError, match=f"activation.{option}: found"):
        build_activation("polynorm", **{option: value})


def test_classes_that_cannot_be_built_are_refused(tmp_path, monkeypatch):
    (tmp_path / "needy.py").write_text(
        "from lightning_polycom.activations import Activation\n"
        "class Needy(Activation):\n"
        "    def __init__(self, temperature):\n"
        "        super().__init__()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"cannot build 'needy\.Needy': missing a required argument: 'temperature'"):
        build_activation("needy.Needy")
    for path in ("lightning_polycom.activations.Activation", "..x"):
        with pytest.raises(InputError, match=r"activation\.name:"):
            build_activation(path)

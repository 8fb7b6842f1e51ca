"""The fast path of every polynomial activation against the reference formula."""

import pytest
import torch
from references import POLYNOMIALS, inputs, randomised, reference

from lightning_polycom.activations import ACTIVATIONS, build_activation
from lightning_polycom.errors import InputError


def compare_with_reference(name: str, module, x: list[torch.Tensor]) -> None:
    """Values and all gradients of fp64 tensors agree to rounding."""
    weight = torch.randn(x[0].shape, dtype=torch.double)
    leaves = (*x, *module.parameters())
    fast, slow = module(*x), reference(name, module, *x)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad((fast * weight).sum(), leaves),
        torch.autograd.grad((slow * weight).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_gradcheck_in_fp64(name, order, bias):
    module = randomised(name, order=order, bias=bias).double()
    x = inputs(module, (2, 3, 4))
    assert torch.autograd.gradcheck(lambda *t: module(*t[: len(x)]), (*x, *module.parameters()))


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_gradcheck_of_coefficients_per_channel(name):
    module = randomised(name, width=5, scope="channel").double()
    x = inputs(module, (2, 3, 5))
    assert torch.autograd.gradcheck(lambda *t: module(*t[: len(x)]), (*x, *module.parameters()))


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_gradcheck_of_coefficients_per_expert(name):
    module = randomised(name, num_experts=3, scope="expert").double()
    x, offsets = inputs(module, (5, 4)), torch.tensor([2, 2, 5], dtype=torch.int32)
    call = lambda *t: module(*t[: len(x)], offsets=offsets)  # noqa: E731
    assert torch.autograd.gradcheck(call, (*x, *module.parameters()))


def test_gradcheck_of_xielu():
    module = build_activation("xielu").double()
    x = torch.tensor([-20.0, -1.0, -1e-3, 1e-3, 1.0, 20.0], dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: module(x), (x, *module.parameters()))


@pytest.mark.parametrize(
    "shape", [(33, 129), (2, 3, 1), (1, 16500), (0, 8), (3, 0), (5,), (700, 300)], ids=lambda s: "x".join(map(str, s))
)
@pytest.mark.parametrize("order", [1, 3, 4])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_forward_and_gradients_match_the_reference_in_fp64(name, order, shape):
    module = randomised(name, order=order).double()
    compare_with_reference(name, module, inputs(module, shape))


@pytest.mark.parametrize(
    "options",
    [
        {"scope": "channel", "width": 300},
        {"sigmoid": True, "bias_limit": 0.5, "output_scale": 0.5},
        {"scope": "channel", "width": 300, "sigmoid": True, "bias": False},
    ],
    ids=lambda options: "-".join(options),
)
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_options_match_the_reference_in_fp64(name, options):
    module = randomised(name, **options).double()
    compare_with_reference(name, module, inputs(module, (700, 300)))


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_strided_inputs_and_gradients(name):
    module = randomised(name)
    strided = [torch.randn(6, 10, 8).transpose(0, 1)[:, ::2].requires_grad_() for _ in inputs(module, (1, 1))]
    dense = [x.detach().contiguous().requires_grad_() for x in strided]
    for x in (strided, dense):
        module(*x).transpose(0, 1).square().sum().backward()
    for a, b in zip(strided, dense, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_any_subset_of_gradients(name):
    module = randomised(name)
    x = inputs(module, (4, 6), torch.float32)
    leaves = [*x, *module.parameters()]
    everything = torch.autograd.grad(module(*x).square().sum(), leaves)
    for index, expected in enumerate(everything):
        for other, leaf in enumerate(leaves):
            leaf.requires_grad_(other == index)
        (alone,) = torch.autograd.grad(module(*x).square().sum(), leaves[index])
        assert torch.equal(alone, expected)
    for leaf in leaves:
        leaf.requires_grad_(False)
    assert not module(*x).requires_grad


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_a_number_that_is_not_finite_reaches_output_and_gradient_of_its_row_only(name, value):
    module = build_activation(name)
    x = inputs(module, (2, 3), torch.float32)
    with torch.no_grad():
        x[0][0] = torch.tensor([1.0, value, -1.0])
    y = module(*x)
    y.sum().backward()
    cut_off = module.base == "relu" and value == -float("inf")  # to 0, which is a number
    assert y[0].isfinite().all() == x[0].grad[0].isfinite().all() == cut_off
    assert y[1].isfinite().all() and all(t.grad[1].isfinite().all() for t in x)


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_backward_keeps_its_input_and_a_few_numbers_per_row(name):
    kept, module = [], build_activation(name)
    x = inputs(module, (16, 256), torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        module(*x)
    big = {t.data_ptr() for t in kept if t.numel() >= x[0].numel()}
    assert big == {t.data_ptr() for t in x}
    per_row = 3 * 16 if module.row_normalising else 0
    assert sum(t.numel() for t in kept) == x[0].numel() * len(x) + per_row + module.num_coefficients


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_integers_are_refused(name):
    module = build_activation(name)
    x = [torch.ones(2, 3, dtype=torch.int64)] * (2 if module.gated else 1)
    with pytest.raises(InputError, match=r"activation: found input of dtype torch\.int64; give floating-point numbers"):
        module(*x)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_compiled_equals_eager(name):
    torch.compiler.reset()  # graphs of earlier tests count against torch's limit of 8 a function
    module = build_activation(name)
    x = [torch.randn(16, 64, requires_grad=True) for _ in range(2 if module.gated else 1)]
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*x), module(*x), rtol=1e-5, atol=1e-5)
    leaves = (*x, *module.parameters())
    for a, b in zip(
        torch.autograd.grad(compiled(*x).sum(), leaves), torch.autograd.grad(module(*x).sum(), leaves), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)

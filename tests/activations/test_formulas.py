"""The fast path of every polynomial activation against the reference formula."""

import pytest
import torch

from lightning_polycom.activations import ACTIVATIONS, build_activation, functional

POLYNOMIALS = ["polyrelu", "polynorm"]


def reference(name: str, x: torch.Tensor, module: torch.nn.Module) -> torch.Tensor:
    if name == "polyrelu":
        return functional.polyrelu(x, module.coefficients, module.bias)
    return functional.polynorm(x, module.coefficients, module.bias, module.eps)


def randomised(name: str, order: int, bias: bool = True) -> torch.nn.Module:
    module = build_activation(name, order=order, bias=bias)
    torch.manual_seed(order)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_gradcheck_in_fp64(name, order, bias):
    module = randomised(name, order, bias).double()
    x = torch.randn(3, 5, 7, dtype=torch.double, requires_grad=True)
    parameters = list(module.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: module(x), (x, *parameters))


@pytest.mark.parametrize("shape", [(33, 129), (2, 3, 1), (1, 16500), (0, 8), (5,), (700, 300)])
@pytest.mark.parametrize("order", [1, 3, 4])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_forward_and_gradients_match_the_reference_in_fp64(name, order, shape):
    module = randomised(name, order).double()
    x = torch.randn(shape, dtype=torch.double, requires_grad=True)
    weight = torch.randn(shape, dtype=torch.double)
    inputs = (x, *module.parameters())
    fast, slow = module(x), reference(name, x, module)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad((fast * weight).sum(), inputs),
        torch.autograd.grad((slow * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def relative_error(found: torch.Tensor, true: torch.Tensor) -> float:
    return ((found.double() - true).norm() / true.norm()).item()


@pytest.mark.parametrize(
    ("dtype", "output_limit", "coefficient_limit"), [(torch.float32, 5e-7, 5e-6), (torch.bfloat16, 2.5e-3, 1e-5)]
)
@pytest.mark.parametrize("std", [0.05, 1.0, 12.0])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_error_against_fp64_stays_within_the_stated_limits(name, std, dtype, output_limit, coefficient_limit):
    torch.manual_seed(0)
    module = build_activation(name)
    x = (torch.randn(256, 1024) * std).to(dtype).requires_grad_()
    g = torch.randn(256, 1024).to(dtype)
    y = module(x)
    dx, da, db = torch.autograd.grad(y, (x, module.coefficients, module.bias), g)
    exact = build_activation(name).double()
    x64 = x.detach().double().requires_grad_()
    y64 = reference(name, x64, exact)
    dx64, da64, db64 = torch.autograd.grad(y64, (x64, exact.coefficients, exact.bias), g.double())
    assert y.dtype == dtype and da.dtype == torch.float32
    assert relative_error(y, y64) < output_limit
    assert relative_error(dx, dx64) < output_limit
    assert relative_error(da, da64) < coefficient_limit
    assert relative_error(db, db64) < coefficient_limit


@pytest.mark.parametrize("std", [0.05, 12.0])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_fp16_stays_finite(name, std):
    module = build_activation(name)
    x = (torch.randn(64, 512) * std).half().requires_grad_()
    y = module(x)
    y.float().square().mean().backward()
    assert torch.isfinite(y).all() and torch.isfinite(x.grad).all()


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_strided_inputs_and_gradients(name):
    module = randomised(name, 3)
    base = torch.randn(6, 10, 8)
    x = base.transpose(0, 1)[:, ::2].requires_grad_()
    dense = x.detach().contiguous().requires_grad_()
    module(x).sum().backward()
    module(dense).sum().backward()
    torch.testing.assert_close(x.grad, dense.grad)


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_nan_reaches_output_and_gradient(name):
    x = torch.tensor([[1.0, float("nan"), -1.0]], requires_grad=True)
    y = build_activation(name)(x)
    y.sum().backward()
    assert y.isnan().any() and x.grad.isnan().any()


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_backward_keeps_the_input_and_a_few_numbers_per_row(name):
    kept = []
    x = torch.randn(16, 256, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        build_activation(name)(x)
    big = [t for t in kept if t.numel() >= x.numel()]
    assert len(big) == 1 and big[0].data_ptr() == x.data_ptr()
    assert sum(t.numel() for t in kept) - x.numel() <= 3 * 16 + 4


def test_polynorm_is_the_rms_form_of_the_paper():
    x = torch.tensor([[3.0, -4.0]], dtype=torch.double)
    module = build_activation("polynorm", coefficients=(0.5, 0.25, 2.0), eps=0.0).double()
    with torch.no_grad():
        module.bias.fill_(0.1)
    by_hand = 0.1 + 0.5 * x / (12.5**0.5) + 0.25 * x**2 / ((81 + 256) / 2) ** 0.5 + 2 * x**3 / ((729 + 4096) / 2) ** 0.5
    torch.testing.assert_close(module(x), by_hand)


def test_polyrelu_contains_relu_and_its_square():
    x = torch.randn(9, 9)
    torch.testing.assert_close(build_activation("polyrelu", coefficients=(1.0, 0.0, 0.0))(x), ACTIVATIONS["relu"]()(x))
    torch.testing.assert_close(build_activation("polyrelu", coefficients=(0.0, 1.0, 0.0))(x), ACTIVATIONS["relu2"]()(x))


def test_polynorm_ignores_the_scale_of_a_row():
    x = torch.randn(4, 64, dtype=torch.double)
    module = build_activation("polynorm").double()
    torch.testing.assert_close(module(x), module(37.0 * x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_compiled_equals_eager(name):
    module = randomised(name, 3)
    x = torch.randn(16, 64)
    torch.testing.assert_close(torch.compile(module, backend="eager")(x), module(x), rtol=1e-5, atol=1e-5)

"""Stated limits of the rounding error against fp64, and behaviour at extreme inputs."""

import pytest
import torch
from references import POLYNOMIALS, inputs, reference

from lightning_polycom.activations import build_activation


def relative_error(found: torch.Tensor, true: torch.Tensor) -> float:
    return ((found.double() - true).norm() / true.norm()).item()


def value_and_gradients(function, x: list[torch.Tensor], g: torch.Tensor, parameters: list) -> list[torch.Tensor]:
    y = function(*x)
    return [y, *torch.autograd.grad(y, (*x, *parameters), g)]


@pytest.mark.parametrize(
    ("dtype", "output_limit", "coefficient_limit"), [(torch.float32, 5e-7, 5e-6), (torch.bfloat16, 2.5e-3, 1e-5)]
)
@pytest.mark.parametrize("std", [0.05, 1.0, 12.0])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_error_stays_within_the_limits_and_below_the_plain_formulas(name, std, dtype, output_limit, coefficient_limit):
    torch.manual_seed(0)
    module, exact = build_activation(name), build_activation(name).double()
    x = [(t * (std if i == 0 else 1)).to(dtype) for i, t in enumerate(inputs(module, (256, 1024), torch.float32))]
    x = [t.detach().requires_grad_() for t in x]
    g = torch.randn(256, 1024).to(dtype)
    x64 = [t.detach().double().requires_grad_() for t in x]
    true = value_and_gradients(lambda *t: reference(name, exact, *t), x64, g.double(), list(exact.parameters()))
    found = value_and_gradients(module, x, g, list(module.parameters()))
    plain = value_and_gradients(lambda *t: reference(name, module, *t), x, g, list(module.parameters()))
    assert [t.dtype for t in found] == [dtype] * (1 + len(x)) + [torch.float32] * (len(true) - 1 - len(x))
    for index, (a, b, c) in enumerate(zip(found, true, plain, strict=True)):
        limit = output_limit if index <= len(x) else coefficient_limit
        error = relative_error(a, b)
        assert error < limit
        # Equally good roundings differ by chance: a tenth of the limit is where a difference begins to mean anything.
        assert error <= relative_error(c, b) + limit / 10


@pytest.mark.parametrize("shape", [(33, 129), (2, 3, 777), (2, 16500)], ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize(("dtype", "limit", "sum_limit"), [(torch.float32, 5e-7, 5e-6), (torch.bfloat16, 2.5e-3, 1e-5)])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_the_limits_hold_for_ragged_and_very_wide_shapes(name, dtype, limit, sum_limit, shape):
    torch.manual_seed(0)
    module, exact = build_activation(name), build_activation(name).double()
    x, g = [t.detach().requires_grad_() for t in inputs(module, shape, dtype)], torch.randn(shape).to(dtype)
    x64 = [t.detach().double().requires_grad_() for t in x]
    true = value_and_gradients(lambda *t: reference(name, exact, *t), x64, g.double(), list(exact.parameters()))
    for index, (a, b) in enumerate(
        zip(value_and_gradients(module, x, g, list(module.parameters())), true, strict=True)
    ):
        assert relative_error(a, b) < (limit if index <= len(x) else sum_limit)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_two_runs_are_bit_identical(name, dtype):
    module = build_activation(name)
    x, g = inputs(module, (300, 1500), dtype), torch.randn(300, 1500).to(dtype)
    first, second = (value_and_gradients(module, x, g, list(module.parameters())) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("std", [0.05, 12.0])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_fp16_stays_finite(name, std):
    module = build_activation(name)
    # A wide up branch would carry the product itself out of fp16's range.
    stds = [std, 0.25][: 1 + module.gated]
    x = [(torch.randn(64, 512) * s).half().requires_grad_() for s in stds]
    y = module(*x)
    y.float().square().mean().backward()
    assert torch.isfinite(y).all() and all(torch.isfinite(t.grad).all() for t in (*x, *module.parameters()))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("scale", [1e4, 1e-4, 0.0])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_large_small_and_zero_rows_in_fp32(name, scale, order):
    torch.manual_seed(1)
    module, exact = build_activation(name, order=order), build_activation(name, order=order).double()
    x = [(t.detach() * (scale if i == 0 else 1)) for i, t in enumerate(inputs(module, (8, 512), torch.float32))]
    x = [t.requires_grad_() for t in x]
    x64 = [t.detach().double().requires_grad_() for t in x]
    g = torch.randn(8, 512)
    found = value_and_gradients(module, x, g, list(module.parameters()))
    true = value_and_gradients(lambda *t: reference(name, exact, *t), x64, g.double(), list(exact.parameters()))
    for a, b in zip(found, true, strict=True):
        # A row of one size cancels in dx of order 1 and 2 of a normalised power: compare with its terms, a / |x|.
        atol = 1e-6 * max(b.abs().max().item(), 1 / scale if scale > 1 else 0.0)
        torch.testing.assert_close(a.double(), b, rtol=2e-5, atol=atol)

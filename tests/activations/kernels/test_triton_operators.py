"""The Triton kernels as torch operators: registration, compile, and when they are taken."""

import pytest
import torch
from references import POLYNOMIALS, inputs, randomised
from torch._subclasses.fake_tensor import FakeTensorMode
from triton_calls import on_triton

from lightning_polycom.activations import build_activation
from lightning_polycom.activations.kernels import dispatch


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_schema_fake_kernel_and_autograd_agree_with_the_kernel(name, device):
    from lightning_polycom.activations.kernels.triton_operators import polynomial_forward

    module = randomised(name).to(device)
    gate, up = (*(t.detach().float().to(device).requires_grad_() for t in inputs(module, (2, 3, 8))), None)[:2]
    eps = module.eps if module.row_normalising else None
    numbers = (module.coefficients, module.bias, module.slope)
    torch.library.opcheck(polynomial_forward, (gate, up, *numbers, None, None, module.base, eps))


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_compile_does_not_break(name, device):
    module = randomised(name).to(device)
    x = [t.detach().float().to(device).requires_grad_() for t in inputs(module, (3, 4, 16))]
    compiled = torch.compile(lambda *t: on_triton(module, *t), backend="aot_eager", fullgraph=True)
    leaves = (*x, *module.parameters())
    for a, b in zip(
        torch.autograd.grad(compiled(*x).sum(), leaves),
        torch.autograd.grad(on_triton(module, *x).sum(), leaves),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("options", [{}, {"scope": "channel"}, {"scope": "expert"}])
def test_a_gpu_takes_the_kernels_for_all_but_fp64_and_channels(options, dtype, monkeypatch):
    monkeypatch.setattr(dispatch, "HAS_TRITON", True)
    module = build_activation("polynorm", width=8, num_experts=2, **options)
    offsets = torch.tensor([2, 4], dtype=torch.int32) if module.per_expert else None
    with FakeTensorMode():
        x = torch.empty(4, 8, dtype=dtype, device="cuda")
    expected = dtype != torch.float64 and options.get("scope") != "channel"
    assert dispatch.runs_on_triton(x, module.coefficients, offsets) == expected
    monkeypatch.setattr(dispatch, "HAS_TRITON", False)
    assert not dispatch.runs_on_triton(x, module.coefficients, offsets)


def test_cpu_tensors_take_plain_torch():
    module = build_activation("polynorm")
    assert not dispatch.runs_on_triton(torch.randn(2, 3), module.coefficients, None)
    assert type(module(torch.randn(2, 3)).grad_fn).__name__ == "PolynomialFunctionBackward"


@pytest.mark.parametrize("name", ["polynorm", "polyrelu_glu"])
def test_the_module_on_a_gpu_calls_the_operator(name, device, monkeypatch):
    monkeypatch.setattr(dispatch, "runs_on_triton", lambda *_: True)  # what it answers there is tested above
    module = randomised(name).to(device)
    x = [t.detach().float().to(device) for t in inputs(module, (2, 8))]
    assert torch.equal(module(*x), on_triton(module, *x))
    assert "polynomial_forward" in type(module(*x).grad_fn).__name__


@pytest.mark.parametrize("scope", ["layer", "expert"])
def test_the_module_compiles_whole_with_the_operator_in_it(scope, device, monkeypatch):
    monkeypatch.setattr(dispatch, "runs_on_triton", lambda *_: True)
    module = build_activation("polynorm", scope=scope, num_experts=2).to(device)
    offsets = torch.tensor([1, 4], dtype=torch.int32, device=device) if module.per_expert else None
    x = torch.randn(4, 64, device=device, requires_grad=True)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for a, b in zip(
        torch.autograd.grad(compiled(x, offsets=offsets).sum(), (x, module.coefficients)),
        torch.autograd.grad(module(x, offsets=offsets).sum(), (x, module.coefficients)),
        strict=True,
    ):
        assert torch.equal(a, b)

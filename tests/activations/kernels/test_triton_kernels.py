"""The Triton kernels against the reference formulas: values, all gradients, memory, extreme rows."""

import pytest
import torch
from references import POLYNOMIALS, inputs, randomised, reference
from triton_calls import on_triton, relative_error, value_and_gradients

from lightning_polycom.activations import build_activation

# One chunk and several, held in registers or read again.
DIVISIONS = {"as chosen": None, "kept": (32, 1, True), "read again": (32, 1, False)}


@pytest.fixture
def divided(monkeypatch, device):
    """Sets how rows are divided."""
    from lightning_polycom.activations.kernels import triton_launch

    def divide(division: str) -> None:
        if DIVISIONS[division] is not None:
            chosen = triton_launch.Division(*DIVISIONS[division])
            monkeypatch.setattr(triton_launch, "divide_row", lambda *_: chosen)

    return divide


def compare(name: str, module, x: list[torch.Tensor], exact_limit: float = 5e-7, sum_limit: float = 5e-6) -> None:
    """Relative errors against fp64, by norm, of the value, the input gradients and the sums over rows."""
    parameters, g = list(module.parameters()), torch.randn_like(x[0])
    found = value_and_gradients(lambda *t: on_triton(module, *t), x, parameters, g)
    exact = build_activation(name, order=module.order, bias=module.bias is not None).to(g.device).double()
    exact.load_state_dict(module.state_dict())
    x64 = [t.detach().double().requires_grad_() for t in x]
    true = value_and_gradients(lambda *t: reference(name, exact, *t), x64, list(exact.parameters()), g.double())
    assert [t.dtype for t in found] == [x[0].dtype] * (1 + len(x)) + [torch.float32] * len(parameters)
    for index, (a, b) in enumerate(zip(found, true, strict=True)):
        assert a.shape == b.shape
        assert relative_error(a, b) < (exact_limit if index <= len(x) else sum_limit), index


@pytest.mark.parametrize("division", DIVISIONS)
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_value_and_gradients_in_fp32(name, order, division, divided, device):
    divided(division)
    module = randomised(name, order=order, bias=order != 2).to(device)
    x = [t.detach().to(device).requires_grad_() for t in inputs(module, (2, 3, 100), torch.float32)]
    compare(name, module, x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["polynorm", "polyrelu", "polynorm_glu"])
def test_value_and_gradients_in_half_precision(name, dtype, device):
    module = build_activation(name).to(device)
    x = [t.detach().to(device).requires_grad_() for t in inputs(module, (4, 512), dtype)]
    # The interpreter cuts bf16 off where a GPU rounds: twice the error.
    limit = {torch.bfloat16: 2.5e-3, torch.float16: 4e-4}[dtype] * (2 if device == "cpu" else 1)
    compare(name, module, x, exact_limit=limit, sum_limit=1e-5)


@pytest.mark.parametrize("shape", [(1, 16500), (7,), (3, 129)], ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("name", ["polynorm", "polyrelu_glu"])
def test_awkward_shapes(name, shape, device):
    module = randomised(name).to(device)
    compare(name, module, [t.detach().to(device).requires_grad_() for t in inputs(module, shape, torch.float32)])


@pytest.mark.parametrize("shape", [(0, 8), (3, 0)])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_empty_inputs(name, shape, device):
    module = build_activation(name).to(device)
    x = [t.detach().to(device).requires_grad_() for t in inputs(module, shape, torch.float32)]
    y, *gradients = value_and_gradients(
        lambda *t: on_triton(module, *t), x, list(module.parameters()), torch.ones(shape).to(device)
    )
    assert y.shape == shape and not any(t.any() for t in gradients)


@pytest.mark.parametrize("layout", ["rows apart", "columns apart", "transposed"])
@pytest.mark.parametrize("name", ["polynorm_glu", "polyrelu"])
@pytest.mark.slow
def test_any_strides_of_inputs_and_gradients(name, layout, device):
    module = randomised(name).to(device)
    cut = {
        "rows apart": lambda t: t[:, 3:39],
        "columns apart": lambda t: t[:, ::2],
        "transposed": lambda t: t.T,
    }[layout]
    strided = [cut(torch.randn(72, 72, device=device)).requires_grad_() for _ in inputs(module, (1, 1))]
    dense = [t.detach().contiguous().requires_grad_() for t in strided]
    g = cut(torch.randn(72, 72, device=device))
    results = [
        value_and_gradients(lambda *t: on_triton(module, *t), x, list(module.parameters()), upstream)
        for x, upstream in ((strided, g), (dense, g.contiguous()))
    ]
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(("shape", "scale"), [((3, 64), 1e4), ((3, 64), 1e-4), ((3, 64), 0.0), ((5, 1), 1.0)])
@pytest.mark.parametrize("name", ["polynorm", "polyrelunorm", "polyrelu"])
def test_large_small_and_zero_rows_and_rows_of_one(name, shape, scale, device):
    module, exact = (build_activation(name, order=4).to(device, t) for t in (torch.float32, torch.float64))
    x, g = torch.randn(shape, device=device) * scale, torch.randn(shape, device=device)
    found = value_and_gradients(lambda *t: on_triton(module, *t), [x.requires_grad_()], list(module.parameters()), g)
    x64 = x.detach().double().requires_grad_()
    true = value_and_gradients(lambda *t: reference(name, exact, *t), [x64], list(exact.parameters()), g.double())
    for a, b in zip(found, true, strict=True):
        # What cancels is compared with its terms: dx of a row of one size with a / |x|, sums of g x with |x|.
        atol = 1e-6 * max(b.abs().max().item(), 1 / scale if scale >= 1 else 10 * scale)
        torch.testing.assert_close(a.double(), b, rtol=2e-5, atol=atol)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_a_number_that_is_not_finite_stays_in_its_row(name, value, device):
    module = build_activation(name).to(device)
    x = [t.detach().to(device) for t in inputs(module, (2, 3), torch.float32)]
    x[0][0] = torch.tensor([1.0, value, -1.0])
    x = [t.requires_grad_() for t in x]
    y = on_triton(module, *x)
    y.sum().backward()
    assert not y[0].isfinite().all() and not x[0].grad[0].isfinite().all()
    assert y[1].isfinite().all() and all(t.grad[1].isfinite().all() for t in x)


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_any_subset_of_gradients(name, device):
    module = randomised(name).to(device)
    leaves = [t.detach().to(device) for t in inputs(module, (4, 6), torch.float32)]
    x, leaves = list(leaves), [*leaves, *module.parameters()]
    for leaf in leaves:
        leaf.requires_grad_()
    everything = torch.autograd.grad(on_triton(module, *x).square().sum(), leaves)
    for index, expected in enumerate(everything):
        for other, leaf in enumerate(leaves):
            leaf.requires_grad_(other == index)
        (alone,) = torch.autograd.grad(on_triton(module, *x).square().sum(), leaves[index])
        assert torch.equal(alone, expected)


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_backward_keeps_its_input_and_a_few_numbers_per_row(name, device):
    kept, module = [], build_activation(name).to(device)
    x = [t.detach().to(device).requires_grad_() for t in inputs(module, (16, 256), torch.float32)]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        on_triton(module, *x)
    per_row = 3 * 16 if module.row_normalising else 0
    assert sum(t.numel() for t in kept) == x[0].numel() * len(x) + per_row + module.num_coefficients


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_two_runs_are_bit_identical(name, device):
    module = build_activation(name).to(device)
    x = [t.detach().to(device).requires_grad_() for t in inputs(module, (9, 200), torch.float32)]
    g, parameters = torch.randn(9, 200, device=device), list(module.parameters())
    first, second = (value_and_gradients(lambda *t: on_triton(module, *t), x, parameters, g) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "options",
    [{"sigmoid": True, "bias_limit": 0.5, "output_scale": 0.5}, {"frozen": True}, {"bias": False, "order": 4}],
    ids=lambda options: "-".join(options),
)
@pytest.mark.parametrize("name", ["polynorm", "polyrelu_glu"])
def test_options_equal_the_reference(name, options, device):
    module = randomised(name, **options).to(device)
    x = [t.detach().to(device).requires_grad_() for t in inputs(module, (3, 100), torch.float32)]
    trained = [p for p in module.parameters() if p.requires_grad]
    g = torch.randn(3, 100, device=device)
    found = value_and_gradients(lambda *t: on_triton(module, *t), x, trained, g)
    for a, b in zip(found, value_and_gradients(lambda *t: reference(name, module, *t), x, trained, g), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5)


def test_coefficients_with_gaps_are_read_as_they_are(device):
    from lightning_polycom.activations.kernels.triton_operators import polynomial_forward

    x, table = torch.randn(2, 16, device=device), torch.randn(3, 4, device=device)
    whole, cut = (
        polynomial_forward(x, None, a, None, None, None, None, "relu", None)[0]
        for a in (table[:, 1].clone(), table[:, 1])
    )
    assert torch.equal(whole, cut)


def test_offsets_with_gaps_are_read_as_they_are(device):
    from lightning_polycom.activations.kernels.triton_segments import segment_sums

    shares, ends = (
        torch.randn(9, 4, device=device),
        torch.tensor([[2, 7], [5, 8], [9, 9]], dtype=torch.int32, device=device),
    )
    assert torch.equal(segment_sums(shares, ends[:, 0]), segment_sums(shares, ends[:, 0].clone()))
    assert torch.equal(segment_sums(shares.T.contiguous().T, ends[:, 0]), segment_sums(shares, ends[:, 0].clone()))

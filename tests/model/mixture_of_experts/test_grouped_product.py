import pytest
import torch

from lightning_polycom.model.mixture_of_experts import grouped_product
from lightning_polycom.model.mixture_of_experts.grouped_product import grouped_linear, grouped_rows

OFFSETS = {
    "even": [5, 10, 15, 20],
    "empty experts": [0, 7, 7, 20],
    "all to the first": [20, 20, 20, 20],
    "all to the last": [0, 0, 0, 20],
}


def factors(offsets, dtype, inner=16, outer=24):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(offsets[-1], inner, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.randn(len(offsets), outer, inner, generator=generator, dtype=torch.float64).to(dtype)
    return x.requires_grad_(), weight.requires_grad_(), torch.tensor(offsets, dtype=torch.int32)


def looped(x, weight, offsets):
    """Each group by itself, in plain torch."""
    ends = offsets.tolist()
    groups = zip([0, *ends[:-1]], ends, weight, strict=True)
    return torch.cat([x[start:end] @ matrix.t() for start, end, matrix in groups])


@pytest.mark.parametrize("offsets", OFFSETS.values(), ids=OFFSETS.keys())
@pytest.mark.parametrize(
    ("dtype", "inner"),
    [(torch.float32, 16), (torch.bfloat16, 16), (torch.float64, 16), (torch.float32, 10), (torch.bfloat16, 12)],
)
def test_equals_the_loop_forward_and_backward(offsets, dtype, inner):
    x, weight, ends = factors(offsets, dtype, inner)
    found, expected = grouped_linear(x, weight, ends), looped(x, weight, ends)
    assert found.dtype == dtype
    # A product of more rows may be summed in another order.
    tolerance = {torch.float64: 1e-12, torch.bfloat16: 0.03, torch.float32: 1e-5}[dtype]
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    grad = torch.randn(found.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    gradients = torch.autograd.grad(found, (x, weight), grad), torch.autograd.grad(expected, (x, weight), grad)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows(rows):
    x, weight, ends = factors([0, rows, rows], torch.float32)
    y = grouped_linear(x, weight, ends)
    y.sum().backward()  # the gradient of a sum has no strides
    assert y.shape == (rows, 24)
    assert torch.equal(weight.grad[1], x.detach().sum(0).expand(24, 16))
    assert not weight.grad[0].any() and not weight.grad[2].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_groups_across_blocks_of_rows(dtype):
    x, weight, ends = factors([70, 70, 200, 201], dtype)
    with torch.no_grad():
        x[70:74] = torch.inf  # of a neighbour: thrown away, whatever it is
    y, expected = grouped_linear(x, weight, ends), looped(x, weight, ends)
    torch.testing.assert_close(y[:70], expected[:70], rtol=1e-2, atol=0.03)
    torch.testing.assert_close(y[74:], expected[74:], rtol=1e-2, atol=0.03)


def test_gradients_are_those_of_differences():
    x, weight, ends = factors([1, 1, 4], torch.float64, 3, 2)
    assert torch.autograd.gradcheck(lambda x, weight: grouped_linear(x, weight, ends), (x, weight))


def test_autocast_says_the_dtype_and_gradients_keep_the_parameters():
    x, weight, ends = factors(OFFSETS["empty experts"], torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = grouped_linear(x, weight, ends)
    y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16 and weight.grad.dtype == x.grad.dtype == torch.float32
    torch.testing.assert_close(y, looped(x.bfloat16(), weight.bfloat16(), ends), rtol=0, atol=0.03)


def test_gradient_of_a_weight_lies_in_memory_as_the_weight():
    x, weight, ends = factors(OFFSETS["even"], torch.float32)
    (gradient,) = torch.autograd.grad(grouped_linear(x, weight, ends).square().sum(), weight)
    assert gradient.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_operators_keep_torchs_contract(dtype):
    x, weight, ends = factors(OFFSETS["empty experts"], dtype)
    weight = weight.transpose(1, 2)
    torch.library.opcheck(grouped_rows, (x, weight, ends))
    torch.library.opcheck(grouped_product.grouped_sums, (x.detach(), x.detach(), ends))


def test_offsets_are_read_by_python_only_where_torch_cannot_group(monkeypatch):
    monkeypatch.setattr(grouped_product, "_bounds", lambda _: pytest.fail("read the offsets"))
    x, weight, ends = factors(OFFSETS["even"], torch.float32)
    grouped_linear(x, weight, ends).sum().backward()


def test_meta_tensors_have_the_shapes():
    x, weight, ends = (tensor.to("meta") for tensor in factors(OFFSETS["even"], torch.float32))
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    y = grouped_linear(x, weight, ends)
    y.sum().backward()
    assert y.shape == (20, 24) and weight.grad.shape == weight.shape and x.grad.shape == x.shape

"""Coefficients of experts: each expert's rows are as one module of its own computes them."""

import pytest
import torch
from references import POLYNOMIALS
from triton_calls import on_triton

from lightning_polycom.activations import build_activation
from lightning_polycom.activations.kernels.experts import expert_of_row, sums_per_expert
from lightning_polycom.errors import InputError

ENDS = {"ragged": [3, 3, 8, 9], "all to one": [0, 9, 9, 9], "empty": [0, 0, 0, 0]}


def experts_module(name: str, device: str = "cpu"):
    module = build_activation(name, scope="expert", num_experts=4)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module.to(device)


def by_loop(module, x: list[torch.Tensor], ends: list[int]) -> torch.Tensor:
    """Each expert's rows through a module of scope layer that holds its numbers."""
    parts, start = [], 0
    for expert, end in enumerate(ends):
        alone = build_activation(module_name(module)).to(x[0].device)
        numbers = {"coefficients": module.coefficients[:, expert], "bias": module.bias[expert : expert + 1]}
        numbers |= {} if module.slope is None else {"slope": module.slope}
        parts.append(torch.func.functional_call(alone, numbers, tuple(t[start:end] for t in x)))
        start = end
    return torch.cat(parts)


def module_name(module) -> str:
    from lightning_polycom.activations import ACTIVATIONS

    return next(name for name, cls in ACTIVATIONS.items() if cls is type(module))


@pytest.mark.parametrize("path", ["plain torch", "triton"])
@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_equal_to_a_loop_over_experts_and_blind_to_rows_of_nobody(name, ends, path, request):
    device = request.getfixturevalue("device") if path == "triton" else "cpu"
    module, ends = experts_module(name, device), ENDS[ends]
    x = [torch.randn(11, 20, device=device) for _ in range(1 + module.gated)]
    for t in x:
        t[ends[-1] :] = float("nan")  # a grouped matrix product leaves these rows as it found them
        t.requires_grad_()
    offsets, g = torch.tensor(ends, dtype=torch.int32, device=device), torch.randn(11, 20, device=device)
    call = module if path == "plain torch" else lambda *t, offsets: on_triton(module, *t, offsets=offsets)
    y, expected = call(*x, offsets=offsets), by_loop(module, x, ends)
    torch.testing.assert_close(y[: ends[-1]], expected, rtol=1e-5, atol=1e-5)
    leaves = (*x, *module.parameters())
    found = torch.autograd.grad(y, leaves, g)
    true = torch.autograd.grad(expected, leaves, g[: ends[-1]], allow_unused=True, materialize_grads=True)
    for index, (a, b) in enumerate(zip(found, true, strict=True)):
        rows = slice(ends[-1]) if index < len(x) else slice(None)
        torch.testing.assert_close(a[rows], b[rows], rtol=1e-4, atol=1e-4)


def test_more_rows_than_a_chunk_holds():
    module = experts_module("polynorm")
    x = torch.randn(3000, 512)
    offsets = torch.tensor([1000, 1001, 1001, 3000], dtype=torch.int32)
    torch.testing.assert_close(module(x, offsets=offsets), by_loop(module, [x], offsets.tolist()), rtol=1e-5, atol=1e-5)


def test_the_expert_of_each_row():
    offsets = torch.tensor([2, 2, 5], dtype=torch.int32)
    assert expert_of_row(offsets, 7).tolist() == [0, 0, 2, 2, 2, 3, 3]


@pytest.mark.parametrize("rows", [9, 5000])
def test_segment_sums_of_the_kernel_equal_those_of_plain_torch(rows, device):
    from lightning_polycom.activations.kernels.triton_segments import segment_sums

    shares = torch.randn(rows, 5, device=device)
    offsets = torch.tensor([0, rows // 3, rows // 3, rows - 2], dtype=torch.int32, device=device)
    expected = sums_per_expert(shares, offsets)
    torch.testing.assert_close(segment_sums(shares, offsets), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(expected[1], shares[: rows // 3].sum(0), rtol=1e-4, atol=1e-4)


def test_offsets_go_with_the_scope():
    x, offsets = torch.randn(4, 8), torch.tensor([1, 2, 3, 4], dtype=torch.int32)
    with pytest.raises(InputError, match="activation: found no offsets; give offsets"):
        experts_module("polynorm")(x)
    with pytest.raises(InputError, match="activation: found offsets; leave out offsets"):
        build_activation("polynorm")(x, offsets=offsets)


def test_the_numbers_of_experts_start_as_those_of_a_layer():
    experts, layer = build_activation("polyrelu", scope="expert", num_experts=4), build_activation("polyrelu")
    assert experts.coefficients.shape == (3, 4) and experts.bias.shape == (4,)
    assert experts.per_expert and not layer.per_expert
    assert experts.learned_values() == pytest.approx(layer.learned_values())

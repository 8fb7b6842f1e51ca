"""The rotation and its gradient are those of the plain formula, in one part or several."""

import pytest
import torch

from lightning_polycom.model import rotary
from lightning_polycom.model.rotary import rotary_table, rotate


def plain(x, table):
    """The formula, differentiated by autograd."""
    cosine, sine = table
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cosine + torch.cat([-second, first], dim=-1) * sine).to(x.dtype)


@pytest.fixture(params=["one part", "parts"])
def parts(request, monkeypatch):
    if request.param == "parts":
        monkeypatch.setattr(rotary, "ELEMENTS_PER_CHUNK", 2 * 3 * 5 * 8)  # two of five rows


@pytest.fixture
def x():
    heads_last = torch.randn(5, 5, 3, 8, generator=torch.Generator().manual_seed(0))
    return heads_last.transpose(1, 2)  # as attention makes it


TABLES = {
    "of all rows": torch.arange(5),
    "of one row for all": torch.arange(5)[None, None],
    "of each row": torch.arange(25).view(5, 1, 5) % 7,
}


@pytest.mark.parametrize("positions", TABLES.values(), ids=TABLES)
def test_fp32_has_the_bits_of_the_plain_formula(parts, x, positions):
    table = rotary_table(positions, 8, 10000.0)
    x, g = x.requires_grad_(), torch.randn(5, 3, 5, 8)
    found, expected = rotate(x, table), plain(x, table)
    assert torch.equal(found, expected)
    assert torch.equal(torch.autograd.grad(found, x, g)[0], torch.autograd.grad(expected, x, g)[0])


def test_bf16_rounds_value_and_gradient_once(parts, x):
    table = rotary_table(torch.arange(5), 8, 10000.0)
    x, g = x.bfloat16().requires_grad_(), torch.randn(5, 3, 5, 8).bfloat16()
    exact = x.detach().double().requires_grad_()
    value = exact * table[0].double() + torch.cat([-exact[..., 4:], exact[..., :4]], dim=-1) * table[1].double()
    found = rotate(x, table)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), value, rtol=2**-8, atol=1e-6)
    gradient, expected = torch.autograd.grad(found, x, g)[0], torch.autograd.grad(value, exact, g.double())[0]
    torch.testing.assert_close(gradient.double(), expected, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_a_compiled_graph_the_gradient_is_the_same(x, dtype):
    table = rotary_table(torch.arange(5), 8, 10000.0)
    x, g = x.to(dtype).requires_grad_(), torch.randn(5, 3, 5, 8).to(dtype)

    def sine_of_rotated(x):  # an operation before and after, so that the function is in the midst of a graph
        return rotate(x * 2, table).sin()

    compiled = torch.compile(sine_of_rotated, backend="aot_eager", fullgraph=True)
    found, expected = (torch.autograd.grad(f(x), x, g)[0] for f in (compiled, sine_of_rotated))
    torch.testing.assert_close(found, expected)

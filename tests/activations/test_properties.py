"""What the mathematics says of the polynomial activations, on inputs that hypothesis makes up."""

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_polycom.activations import build_activation

settings.register_profile("quick", max_examples=25, deadline=None)
settings.load_profile("quick")

NUMBERS = st.floats(-10, 10, allow_nan=False, width=32)
ROWS = (
    st.integers(1, 4)
    .flatmap(lambda width: st.lists(st.lists(NUMBERS, min_size=width, max_size=width), min_size=1, max_size=4))
    .map(lambda rows: torch.tensor(rows, dtype=torch.double))
)


def powers(x: torch.Tensor, coefficients: list[float]) -> torch.Tensor:
    return sum(a * x**p for p, a in enumerate(coefficients, start=1))


@given(ROWS, st.floats(0.01, 100))
def test_polynorm_without_eps_ignores_the_scale_of_a_row(x, scale):
    x = x + torch.where(x >= 0, 0.1, -0.1)  # a row of zeros has no scale
    module = build_activation("polynorm", eps=0.0, coefficients=(0.5, -0.3, 2.0)).double()
    torch.testing.assert_close(module(scale * x), module(x), rtol=1e-9, atol=1e-9)


@given(ROWS, st.floats(0.5, 100))
def test_eps_breaks_the_invariance_by_its_own_size_only(x, scale):
    x = x + torch.where(x >= 0, 1.0, -1.0)
    module = build_activation("polynorm", eps=1e-6).double()
    torch.testing.assert_close(module(scale * x), module(x), rtol=1e-4, atol=1e-4)


@given(ROWS)
def test_polyrelu_holds_relu_and_its_square(x):
    for name, coefficients in (("relu", (1.0, 0.0, 0.0)), ("relu2", (0.0, 1.0, 0.0))):
        polyrelu = build_activation("polyrelu", coefficients=coefficients)
        torch.testing.assert_close(polyrelu(x), build_activation(name)(x))


@given(st.lists(NUMBERS, min_size=1, max_size=4), ROWS)
def test_a_polynomial_is_a_polyrelu_of_x_plus_one_of_minus_x(coefficients, x):
    reflected = [a * (-1) ** p for p, a in enumerate(coefficients, start=1)]
    order = len(coefficients)
    above, below = (build_activation("polyrelu", order=order, coefficients=tuple(a)) for a in (coefficients, reflected))
    torch.testing.assert_close(above(x) + below(-x), powers(x, coefficients), rtol=1e-6, atol=1e-6)


@given(ROWS, st.floats(-2, 2))
def test_polyprelu_with_slope_one_is_the_polynomial_and_with_slope_zero_polyrelu(x, bias):
    coefficients = (0.5, -0.25, 2.0)
    module = build_activation("polyprelu", coefficients=coefficients).double()
    with torch.no_grad():
        module.bias.fill_(bias)
        module.slope.fill_(1)
        torch.testing.assert_close(module(x), powers(x, coefficients) + bias)
        module.slope.zero_()
        polyrelu = build_activation("polyrelu", coefficients=coefficients).double()
        torch.testing.assert_close(module(x), polyrelu(x) + bias)


@given(ROWS, st.integers(1, 3))
def test_a_relu_network_is_a_polyrelu_network_of_the_same_size(x, layers):
    torch.manual_seed(layers)
    widths = [x.shape[1], *[5] * layers, 1]
    linears = [torch.nn.Linear(a, b, dtype=torch.double) for a, b in pairwise(widths)]
    outputs = []
    for activation in (build_activation("relu"), build_activation("polyrelu", coefficients=(1.0, 0.0, 0.0))):
        y = x
        for linear in linears[:-1]:
            y = activation(linear(y))
        outputs.append(linears[-1](y))
    assert torch.equal(*outputs)

import sys

import pytest
import torch
from torch.nn import functional as F

from lightning_polycom.activations import ACTIVATIONS, ActivationConfig, build_activation
from lightning_polycom.errors import InputError

GATED = {"swiglu": F.silu, "geglu": F.gelu, "reglu": F.relu}
PLAIN = {"relu": F.relu, "relu2": lambda x: F.relu(x) ** 2, "gelu": F.gelu, "silu": F.silu}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_activations_are_the_textbook_ones(name):
    x = torch.randn(5, 7)
    module = build_activation(name)
    assert not module.gated
    torch.testing.assert_close(module(x), PLAIN[name](x))


@pytest.mark.parametrize("name", GATED)
def test_gated_activations_act_on_the_gate(name):
    gate, up = torch.randn(2, 5, 7)
    module = build_activation(name)
    assert module.gated
    torch.testing.assert_close(module(gate, up), GATED[name](gate) * up)


def test_xielu_is_the_integral_of_its_derivative():
    alpha, beta = 0.8, 0.5
    x = torch.linspace(-5, 5, 20001, dtype=torch.double)
    slope = torch.where(x > 0, 2 * alpha * x + beta, alpha * torch.expm1(x) + beta)
    integral = torch.cumulative_trapezoid(slope, x)
    y = build_activation("xielu").double()(x)
    torch.testing.assert_close((y[1:] - y[0]).detach(), integral, rtol=1e-6, atol=1e-6)
    assert abs(y[10000].item()) < 1e-15


def test_gelu_has_a_tanh_form():
    x = torch.randn(5, 7)
    expected = F.gelu(x, approximate="tanh")
    torch.testing.assert_close(build_activation("gelu", approximate="tanh")(x), expected)
    torch.testing.assert_close(build_activation("geglu", approximate="tanh")(x, 2 * x), expected * 2 * x)
    with pytest.raises(InputError, match=r"activation\.approximate: found 'erf'; give none or tanh"):
        build_activation("gelu", approximate="erf")


def test_every_registered_name_builds():
    for name in ACTIVATIONS:
        build_activation(ActivationConfig(name))


def test_polynomials_start_as_in_the_paper():
    module = build_activation("polynorm")
    torch.testing.assert_close(module.coefficients.detach(), torch.full((3,), 1 / 3))
    assert module.bias.tolist() == [0.0]
    assert build_activation("polynorm", bias=False).bias is None


def test_unknown_name_lists_near_matches():
    with pytest.raises(InputError, match="unknown activation 'polynrom'; did you mean polynorm"):
        build_activation("polynrom")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 5}, "activation.order: found 5; the polynomial orders are 1 to 4"),
        ({"coefficients": (1.0, 2.0)}, "activation.coefficients: found 2 values for order 3; give 3"),
    ],
)
def test_bad_options_name_the_key(options, message):
    with pytest.raises(InputError, match=message):
        build_activation("polynorm", **options)


def test_an_option_that_the_activation_lacks_is_an_error():
    with pytest.raises(InputError, match=r"activation\.order: 'relu' has no such option; it takes none"):
        build_activation("relu", order=2)
    with pytest.raises(InputError, match=r"activation\.eps: 'polyrelu' has no such option"):
        build_activation("polyrelu", eps=1e-5)


def test_own_activation_by_import_path(tmp_path, monkeypatch):
    (tmp_path / "my_activation.py").write_text(
        "from lightning_polycom.activations.modules import Activation\n"
        "class Cube(Activation):\n"
        "    def forward(self, x):\n"
        "        return x ** 3\n"
        "class NotOne: pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    x = torch.randn(3)
    torch.testing.assert_close(build_activation("my_activation.Cube")(x), x**3)
    with pytest.raises(InputError, match="is no Activation class"):
        build_activation("my_activation.NotOne")
    with pytest.raises(InputError, match=r"cannot import 'no_such_module\.Cube'"):
        build_activation("no_such_module.Cube")
    sys.modules.pop("my_activation")

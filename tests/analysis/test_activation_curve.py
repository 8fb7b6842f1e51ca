import pytest
import torch

from lightning_polycom.activations import ACTIVATIONS, build_activation
from lightning_polycom.analysis.activation_curve import activation_curve


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_has_a_finite_curve(name):
    curve = activation_curve(build_activation(name))
    assert all(t.dtype == torch.double and t.isfinite().all() for t in curve)
    assert (curve.x.diff() > 0).all()


def test_value_and_derivative_of_a_known_function():
    x, y, derivative = activation_curve(build_activation("relu2"), std=2.0)
    assert x.std().item() == pytest.approx(2.0, rel=1e-2)
    torch.testing.assert_close(y, x.clamp(min=0) ** 2)
    inner = slice(10, -10)  # the row's ends are far apart, so differences are coarse there
    torch.testing.assert_close(derivative[inner], 2 * x.clamp(min=0)[inner], rtol=1e-2, atol=1e-2)


def test_polynorm_is_its_polynomial_at_the_rows_own_mean_squares():
    curve = activation_curve(build_activation("polynorm", coefficients=(0.0, 1.0, 0.0), eps=0.0))
    scale = curve.x.pow(4).mean().sqrt()
    torch.testing.assert_close(curve.y, curve.x**2 / scale)


@pytest.mark.parametrize("scope", ["channel", "expert"])
def test_coefficients_per_channel_or_expert_are_drawn_by_their_mean_and_left_alone(scope):
    module = build_activation("polynorm", scope=scope, width=2, num_experts=2)
    with torch.no_grad():
        module.coefficients[:, 0], module.coefficients[:, 1] = 0.5, 1.5
    expected = activation_curve(build_activation("polynorm", coefficients=(1.0, 1.0, 1.0)))
    torch.testing.assert_close(activation_curve(module).y, expected.y)
    assert module.coefficients.shape == (3, 2)


def test_what_is_averaged_is_what_enters_the_formula():
    options = {"sigmoid": True, "bias_limit": 0.5, "order": 1, "output_scale": 0.5}
    module = build_activation("polyrelu", scope="channel", width=2, **options)
    with torch.no_grad():
        module.coefficients.copy_(torch.tensor([[-6.0, 2.0]]))
        module.bias.copy_(torch.tensor([3.0, 0.0]))
    curve, learned = activation_curve(module), module.learned_values()
    torch.testing.assert_close(
        curve.y, learned["coefficient_1"] * curve.x.clamp(min=0) + learned["bias"], rtol=1e-6, atol=1e-6
    )

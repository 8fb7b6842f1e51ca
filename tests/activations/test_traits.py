import pytest
import torch

from lightning_polycom.activations import ACTIVATIONS, ActivationConfig, build_activation
from lightning_polycom.errors import InputError
from lightning_polycom.model import DecoderConfig

GATED = {"swiglu", "geglu", "reglu", "polynorm_glu", "polyrelu_glu"}
ROW_NORMALISING = {"polynorm", "polyrelunorm", "polynorm_glu"}
NUM_COEFFICIENTS = {"xielu": 2, "polyprelu": 5} | dict.fromkeys(
    ["polyrelu", "polynorm", "polyrelunorm", "polynorm_glu", "polyrelu_glu"], 4
)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_declared_traits(name):
    module = build_activation(name)
    assert module.gated == (name in GATED)
    assert module.num_coefficients == NUM_COEFFICIENTS.get(name, 0)
    assert module.bytes_per_element(2) == (16 if name in GATED else 10)
    assert module.flops_per_element >= 2


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_row_normalising_ones_and_no_others_mix_the_elements_of_a_row(name):
    module = build_activation(name)
    x = torch.linspace(0.5, 2, 8)
    rest = (torch.ones(8),) if module.gated else ()
    changed = torch.cat([x[:7], torch.tensor([9.0])])
    mixes = not torch.equal(module(x, *rest)[:7], module(changed, *rest)[:7])
    assert mixes == module.row_normalising == (name in ROW_NORMALISING)


def test_more_powers_cost_more_arithmetic_but_no_more_traffic():
    modules = [build_activation("polynorm", order=order) for order in (1, 2, 3, 4)]
    flops = [module.flops_per_element for module in modules]
    assert flops == sorted(set(flops))
    assert len({module.bytes_per_element(2) for module in modules}) == 1


def test_the_decoder_states_the_activations_cost_apart_from_the_products():
    config = DecoderConfig(97, 48, 2, 4, 96, ActivationConfig("swiglu"))
    assert config.activation_flops_per_token == 2 * 64 * 13
    assert config.activation_bytes_per_token(2) == 2 * 64 * 16


def test_channel_scope_starts_as_layer_scope():
    x = torch.randn(5, 7)
    channel, layer = (build_activation("polynorm", scope=scope, width=7) for scope in ("channel", "layer"))
    assert channel.coefficients.shape == (3, 7) and channel.bias.shape == (7,)
    assert layer.coefficients.shape == (3,) and layer.bias.shape == (1,)
    torch.testing.assert_close(channel(x), layer(x))


def test_sigmoid_and_output_scale_start_at_the_stated_coefficients():
    module = build_activation("polynorm", sigmoid=True, coefficients=(0.2, 0.3, 0.4), output_scale=0.5)
    torch.testing.assert_close(module.effective_coefficients(), torch.tensor([0.1, 0.15, 0.2]))
    assert module.learned_values() == pytest.approx(
        {"coefficient_1": 0.1, "coefficient_2": 0.15, "coefficient_3": 0.2, "bias": 0.0}
    )


def test_the_bias_stops_at_its_limit():
    module = build_activation("polyrelu", bias_limit=0.5)
    with torch.no_grad():
        module.bias.fill_(3.0)
    assert module(torch.zeros(1, 1)).item() == 0.5


def test_frozen_coefficients_pass_gradients_on_but_take_none():
    module = build_activation("polyprelu", frozen=True)
    x = torch.randn(2, 3, requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None and all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scope": "channel"}, r"activation\.scope: 'channel' needs the width"),
        ({"scope": "expert"}, r"activation\.scope: 'expert' needs a mixture of experts"),
        ({"scope": "token"}, r"activation\.scope: found 'token'; give layer, channel or expert"),
        ({"sigmoid": True, "coefficients": (1.0, 0.5, 0.5)}, r"activation\.coefficients: found .* between 0 and 1"),
        ({"bias": False, "bias_limit": 0.5}, r"activation\.bias_limit: there is no bias to limit"),
        ({"bias_limit": -1.0}, r"activation\.bias_limit: found -1\.0; it must be above 0"),
        ({"learning_rate_multiplier": 0.0}, r"activation\.learning_rate_multiplier: found 0\.0; .* frozen"),
        ({"order": 0}, r"activation\.order: found 0"),
        ({"approximate": "tanh"}, r"activation\.approximate: 'polynorm' has no such option"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, message):
    with pytest.raises(InputError, match=message) as caught:
        build_activation("polynorm", **options)
    assert "\n" not in str(caught.value)

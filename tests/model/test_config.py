import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lightning_polycom.activations import ACTIVATIONS, ActivationConfig
from lightning_polycom.errors import InputError
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.mixture_of_experts import MixtureOfExpertsConfig

SMALL = {"vocab_size": 97, "hidden_size": 48, "num_layers": 2, "num_heads": 4, "intermediate_size": 96}


def counted(config: DecoderConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in Decoder(config).parameters())


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tie_embeddings": True, "num_key_value_heads": 2, "qk_norm": "head"},
        {"num_key_value_heads": 2, "qk_norm": "width"},
    ],
)
def test_parameters_equal_counted_ones(name, options):
    config = DecoderConfig(**SMALL, activation=ActivationConfig(name), **options)
    assert config.num_parameters == config.num_active_parameters == counted(config)


@pytest.mark.parametrize("name", ["polynorm", "polyrelu", "relu", "gelu", "relu2"])
def test_the_dense_experiment_has_the_papers_size(name):
    config = DecoderConfig(32000, 2048, 24, 16, 8256, ActivationConfig(name))
    assert counted(config) == config.num_parameters
    assert round(config.num_parameters / 1e9, 3) == 1.345
    assert round(config.flops_per_token(4096) / 1e9, 2) == 10.09


def test_gated_arms_have_two_thirds_of_the_width_and_the_same_parameters():
    config = DecoderConfig(32000, 2048, 24, 16, 8256, ActivationConfig("swiglu"))
    assert config.feed_forward_size == 5504
    assert config.feed_forward_mismatch == 0
    assert round(counted(config) / 1e9, 3) == 1.345


def test_rounded_gated_width_states_its_mismatch():
    config = DecoderConfig(**{**SMALL, "intermediate_size": 100}, activation=ActivationConfig("swiglu"))
    assert config.feed_forward_size == 64
    assert config.feed_forward_mismatch == pytest.approx(3 * 64 / (2 * 100) - 1)


@pytest.mark.parametrize("name", ["polynorm", "swiglu"])
@pytest.mark.parametrize("options", [{}, {"num_key_value_heads": 2}, {"tie_embeddings": True}])
def test_flops_equal_counted_ones(name, options):
    config = DecoderConfig(**SMALL, activation=ActivationConfig(name), **options)
    decoder, batch, sequence = Decoder(config), 2, 16
    # The plain kernel is the one whose products the counter sees whole, causal half included, as PaLM counts.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        decoder(torch.randint(0, 97, (batch, sequence))).sum().backward()
    # Nothing flows back into the embedding's look-up, but the counter sees the first layer's input gradient; a
    # trained embedding needs it, so the counts agree exactly.
    assert counter.get_total_flops() == batch * sequence * config.flops_per_token(sequence)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 5}, r"decoder\.num_heads: hidden_size 48 over 5 heads"),
        ({"num_key_value_heads": 3}, r"decoder\.num_key_value_heads: 3 does not divide num_heads 4"),
        ({"num_layers": 0}, r"decoder\.num_layers: found 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        DecoderConfig(**{**SMALL, **change})


def test_round_trip_through_a_dict():
    from dataclasses import asdict

    config = DecoderConfig(**SMALL, activation=ActivationConfig("polyrelu", order=2, coefficients=(1.0, 0.5)))
    assert DecoderConfig.from_dict(asdict(config)) == config
    with pytest.raises(InputError, match="unknown keys"):
        DecoderConfig.from_dict({**asdict(config), "novelty": 1})


@pytest.mark.parametrize("name", ["polynorm", "swiglu", "polyrelu_glu"])
@pytest.mark.parametrize("scope", [None, "expert"])
@pytest.mark.parametrize("shared", [0, 24])
def test_parameters_of_a_sparse_decoder_equal_counted_ones(name, scope, shared):
    activation = ActivationConfig(name, scope=scope if name != "swiglu" else None)
    mixture = MixtureOfExpertsConfig(8, 2, shared_intermediate_size=shared)
    config = DecoderConfig(**SMALL, activation=activation, qk_norm="width", mixture_of_experts=mixture)
    assert config.num_parameters == counted(config)
    two = MixtureOfExpertsConfig(2, 2, shared_intermediate_size=shared)
    with_two = DecoderConfig(**SMALL, activation=activation, qk_norm="width", mixture_of_experts=two)
    # All that one token meets are two experts; but the router asks all of them.
    assert config.num_active_parameters == counted(with_two) + 2 * 6 * 48


def test_the_sparse_experiment_has_the_papers_size():
    mixture = MixtureOfExpertsConfig(64, 8)
    for name, width in (("polynorm", 1536), ("swiglu", 1024)):
        config = DecoderConfig(
            50304, 2048, 16, 16, 1536, ActivationConfig(name), qk_norm="width", mixture_of_experts=mixture
        )
        assert config.feed_forward_size == width and config.num_parameters == counted(config)
        assert round(config.num_parameters / 1e9, 2) == 6.92 and round(config.num_active_parameters / 1e9, 2) == 1.28
        assert round(config.flops_per_token(4096) / 1e9, 2) == 8.68

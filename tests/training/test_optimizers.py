from lightning_polycom.activations import ActivationConfig
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.mixture_of_experts import MixtureOfExpertsConfig
from lightning_polycom.training.optimizers import OptimizerConfig, build_optimizer


def test_only_matrices_decay():
    decoder = Decoder(DecoderConfig(31, 16, 2, 2, 32, qk_norm="head"))
    names = {id(p): n for n, p in decoder.named_parameters()}
    decayed, exempt = build_optimizer(OptimizerConfig(weight_decay=0.3), decoder).param_groups
    assert decayed["weight_decay"] == 0.3 and exempt["weight_decay"] == 0.0
    assert {names[id(p)] for p in exempt["params"]} == {
        n for n in names.values() if "norm" in n or n.endswith((".coefficients", ".bias"))
    }
    assert len(decayed["params"]) + len(exempt["params"]) == len(names)


def test_settings_reach_the_optimizer():
    optimizer = build_optimizer(OptimizerConfig(0.5, (0.8, 0.9), 1e-5), Decoder(DecoderConfig(31, 16, 1, 2, 32)))
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"], group["fused"]) == (0.5, (0.8, 0.9), 1e-5, True)


def test_norms_decay_where_they_are_asked_to():
    decoder = Decoder(DecoderConfig(31, 16, 2, 2, 32, qk_norm="width"))
    names = {id(p): n for n, p in decoder.named_parameters()}
    decayed, exempt = build_optimizer(OptimizerConfig(decay_norms=True), decoder).param_groups
    assert {names[id(p)].rsplit(".", 1)[1] for p in exempt["params"]} == {"coefficients", "bias"}
    assert any("query_norm" in names[id(p)] for p in decayed["params"])


def test_experts_decay_and_their_coefficients_do_not():
    mixture = MixtureOfExpertsConfig(4, 2, selection_bias=True)
    activation = ActivationConfig("polynorm", scope="expert")
    decoder = Decoder(DecoderConfig(31, 16, 1, 2, 32, activation, mixture_of_experts=mixture))
    names = {id(p): n for n, p in decoder.named_parameters()}
    decayed, exempt = build_optimizer(OptimizerConfig(), decoder).param_groups
    kept = {names[id(p)].removeprefix("blocks.0.feed_forward.") for p in exempt["params"] if p.ndim > 1}
    assert kept == {"activation.coefficients"}
    assert {"up", "down", "router.weight"} <= {
        names[id(p)].removeprefix("blocks.0.feed_forward.") for p in decayed["params"]
    }

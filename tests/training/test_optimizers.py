from lightning_polycom.model import Decoder, DecoderConfig
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

import re
from types import SimpleNamespace

import pytest

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.callbacks.tensorboard_layout import layout
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.mixture_of_experts import MixtureOfExpertsConfig

TAGS = [
    "train/loss", "val/loss", "val/code/loss", "val/code/bits_per_byte", "activation/0/coefficient_1",
    "activation/11/bias", "eval/arc_easy/acc_norm", "eval/arc_easy/acc", "eval/arc_easy/acc_stderr",
    "eval/heldout/bits_per_byte", "throughput/tokens_per_second", "optim/grad_norm", "moe/3/max_load_over_mean",
]  # fmt: skip


@pytest.mark.parametrize(("name", "experts"), [("polynorm", None), ("swiglu", None), ("polynorm", 4)])
def test_every_chart_shows_its_tags(name, experts):
    mixture = None if experts is None else MixtureOfExpertsConfig(experts, 1)
    config = DecoderConfig(31, 16, 2, 2, 32, ActivationConfig(name), mixture_of_experts=mixture)
    sections = layout(SimpleNamespace(decoder=Decoder(config)))
    assert ("experts, all layers" in sections) == (experts is not None)
    assert ("learned coefficients, all layers" in sections) == (name == "polynorm")
    charts = {title: tags for charts in sections.values() for title, (_, tags) in charts.items()}
    shown = {
        title: [t for t in TAGS if any(re.match(pattern, t) for pattern in tags)] for title, tags in charts.items()
    }
    assert shown["held out, by domain (nats per token)"] == ["val/code/loss"]
    assert shown["accuracy"] == ["eval/arc_easy/acc_norm", "eval/arc_easy/acc"]
    if name == "polynorm":
        assert shown["bias"] == ["activation/11/bias"] and shown["coefficient_1"] == ["activation/0/coefficient_1"]
    if experts is not None:
        assert shown["busiest over mean"] == ["moe/3/max_load_over_mean"]
    assert shown["training (nats per token)"] == ["train/loss"]

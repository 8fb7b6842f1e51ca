"""recompute_activation: the same numbers, no tensor of the feed-forward's width kept but the activation's input."""

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.flop_counter import FlopCounterMode

from lightning_polycom.activations import ACTIVATIONS, ActivationConfig
from lightning_polycom.model import DecoderConfig
from lightning_polycom.model.feed_forward import FeedForward

WIDTH = 96


def feed_forward(name: str, recompute: bool) -> FeedForward:
    torch.manual_seed(0)
    return FeedForward(DecoderConfig(31, 16, 1, 2, WIDTH, ActivationConfig(name), recompute_activation=recompute))


def gradients(name: str, recompute: bool) -> list[torch.Tensor]:
    module = feed_forward(name, recompute)
    x = torch.linspace(-2, 2, 7 * 16).reshape(7, 16).requires_grad_()
    y = module(x)
    return [y, *torch.autograd.grad(y.square().sum(), (x, *module.parameters()))]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_output_and_gradients_are_the_same(name):
    for kept, recomputed in zip(gradients(name, False), gradients(name, True), strict=True):
        assert torch.equal(kept, recomputed)


@pytest.mark.parametrize("name", ["polynorm", "polyrelu_glu", "swiglu"])
def test_the_output_of_the_activation_is_not_kept(name):
    alive = []
    for recompute in (False, True):
        module = feed_forward(name, recompute)
        stored = []
        module.activation.register_forward_hook(
            lambda _, __, y, stored=stored: stored.append(StorageWeakRef(y.untyped_storage()))
        )
        y = module(torch.randn(7, 16, requires_grad=True))
        alive.append(not stored[0].expired())
        y.sum().backward()
    assert alive == [True, False]


def test_the_products_are_not_computed_again():
    counts = []
    for recompute in (False, True):
        module = feed_forward("polynorm", recompute)
        with FlopCounterMode(display=False) as counter:
            module(torch.randn(7, 16, requires_grad=True)).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1]


def test_an_activation_that_draws_numbers_draws_the_same_again(tmp_path, monkeypatch):
    (tmp_path / "drawing.py").write_text(
        "from torch.nn import functional as F\n"
        "from lightning_polycom.activations import Activation\n"
        "class Drawing(Activation):\n"
        "    def forward(self, x):\n"
        "        return F.rrelu(x, training=True)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for kept, recomputed in zip(gradients("drawing.Drawing", False), gradients("drawing.Drawing", True), strict=True):
        assert torch.equal(kept, recomputed)

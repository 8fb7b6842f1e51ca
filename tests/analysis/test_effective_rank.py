import math

import numpy as np
import pytest
import torch

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.analysis.effective_rank import effective_rank, feed_forward_ranks
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.mixture_of_experts import MixtureOfExpertsConfig


def orthogonal(size: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(size, size, dtype=torch.double))[0]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def test_known_spectra():
    assert effective_rank(torch.eye(24)) == pytest.approx(24)
    assert effective_rank(torch.outer(torch.randn(30).double(), torch.randn(20).double())) == pytest.approx(1, abs=1e-6)
    assert effective_rank(0.01 * orthogonal(17)[:, :9]) == pytest.approx(9)
    assert effective_rank(torch.zeros(4, 3)) == 0
    assert math.isnan(effective_rank(torch.tensor([[1.0, math.nan]])))


def test_a_geometric_spectrum():
    """Singular values q^k: the entropy of a geometric distribution that is cut at n."""
    n, q = 40, 0.8
    values = q ** np.arange(n)
    shares = values / values.sum()
    matrix = orthogonal(n) @ torch.diag(torch.from_numpy(values)) @ orthogonal(n)
    expected = math.exp(-(shares * np.log(shares)).sum())
    assert effective_rank(matrix) == pytest.approx(expected, rel=1e-9)
    # Without the cut it is exp(h(q) / (1 - q)), h being the binary entropy.
    whole = math.exp(-(q * math.log(q) + (1 - q) * math.log(1 - q)) / (1 - q))
    assert effective_rank(matrix) == pytest.approx(whole, rel=2e-2)
    assert effective_rank(matrix.T * 1e-3) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("activation", "names"), [("relu", ["up", "down"]), ("swiglu", ["up", "gate", "down"])])
def test_every_matrix_of_a_dense_decoder(activation, names):
    decoder = Decoder(DecoderConfig(20, 16, 3, 2, 48, ActivationConfig(activation)))
    with torch.no_grad():
        decoder.blocks[1].feed_forward.up.weight.copy_(
            torch.outer(torch.ones(decoder.config.feed_forward_size), torch.ones(16))
        )
    found = feed_forward_ranks(decoder)
    assert list(found) == names and all(len(layers) == 3 for layers in found.values())
    assert found["up"][1] == [pytest.approx(1, abs=1e-4)]
    assert found["down"][2] == [effective_rank(decoder.blocks[2].feed_forward.down.weight)]


def test_every_expert_of_a_sparse_decoder():
    mixture = MixtureOfExpertsConfig(4, 2, shared_intermediate_size=24)
    decoder = Decoder(DecoderConfig(20, 16, 2, 2, 24, ActivationConfig("polynorm"), mixture_of_experts=mixture))
    found = feed_forward_ranks(decoder)
    assert list(found) == ["up", "down", "shared_up", "shared_down"]
    assert [len(layer) for layer in found["up"]] == [4, 4] and [len(layer) for layer in found["shared_up"]] == [1, 1]
    assert found["down"][1][3] == effective_rank(decoder.blocks[1].feed_forward.down[3])

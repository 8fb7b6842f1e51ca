import numpy as np
import pytest
import torch

from lightning_polycom.analysis.layer_similarity import LayerSimilarity


def test_identical_opposite_orthogonal_and_absent_states():
    state = torch.zeros(2, 3, 4)
    state[..., 0] = torch.randn(2, 3).abs() + 0.1
    orthogonal = state.roll(1, dims=-1)
    similarity = LayerSimilarity()
    similarity.add([state, 5 * state, -state, orthogonal, torch.zeros_like(state)])
    expected = [[1, 1, -1, 0, 0], [1, 1, -1, 0, 0], [-1, -1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]
    torch.testing.assert_close(similarity.mean(), torch.tensor(expected, dtype=torch.double))
    assert similarity.num_tokens == 6


def test_the_mean_over_tokens_of_all_passes():
    states = torch.randn(3, 700, 8, generator=torch.Generator().manual_seed(2))
    parts = [LayerSimilarity(), LayerSimilarity()]
    parts[0].add(list(states[:, :300]))
    parts[1].add(list(states[:, 300:500]))
    parts[1].add(list(states[:, 500:].unflatten(1, (4, 50))))
    whole = LayerSimilarity()
    for part in (*parts, LayerSimilarity()):
        whole.merge(part)
    x = states.double().numpy()
    unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
    expected = np.einsum("itd,jtd->ij", unit, unit) / 700
    assert whole.mean().numpy() == pytest.approx(expected, abs=1e-12) and whole.num_tokens == 700

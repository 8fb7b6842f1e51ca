import pytest
import torch

from lightning_polycom.model.mixture_of_experts.balance import (
    load_balance_loss,
    max_load_over_mean,
    move_selection_bias,
    router_z_loss,
)
from lightning_polycom.model.mixture_of_experts.routing import count


def test_an_even_load_gives_experts_per_token_and_one_expert_for_all_the_most():
    even = torch.full((3, 8), 20.0)  # 80 tokens, 2 experts each
    assert load_balance_loss(even, torch.full((3, 8), 10.0), 80).item() == pytest.approx(2)
    one = torch.tensor([[80.0, 0, 0, 0]])
    assert load_balance_loss(one, one, 80).item() == pytest.approx(4)
    assert max_load_over_mean(one.int()).tolist() == [4] and max_load_over_mean(even).tolist() == [1] * 3


def test_layers_are_averaged_and_not_pooled():
    """Two layers that are uneven in opposite ways are uneven."""
    load = torch.tensor([[80.0, 0.0], [0.0, 80.0]])
    assert load_balance_loss(load, load, 80).item() == pytest.approx(2)


def test_router_z_loss_is_the_mean_square_of_the_log_normaliser():
    logits = torch.randn(3, 20, 5)
    expected = logits.logsumexp(-1).square().mean()
    torch.testing.assert_close(router_z_loss(logits.logsumexp(-1).square().sum(1), 20), expected)


def test_selection_bias_moves_against_the_load():
    bias = torch.zeros(4)
    move_selection_bias(bias, torch.tensor([10, 2, 6, 6], dtype=torch.int32), 0.01)
    torch.testing.assert_close(bias, torch.tensor([-0.01, 0.01, 0.0, 0.0]))


def test_count():
    experts = torch.tensor([[0, 3], [3, 1]])
    assert count(experts, 5).tolist() == [1, 1, 0, 2, 0] and count(experts, 5).dtype == torch.int32

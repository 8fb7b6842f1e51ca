import math

import pytest
import torch

from lightning_polycom.training.domain_loss import DomainLoss, loss_scalars


def test_batches_count_by_their_tokens():
    metric = DomainLoss()
    metric.update(torch.tensor(10.0), torch.tensor(2))
    metric.update(torch.tensor(2.0), torch.tensor(4))
    assert metric.compute().item() == 2.0
    metric.reset()
    metric.update(torch.tensor(3.0), torch.tensor(1))
    assert metric.compute().item() == 3.0


def test_the_three_figures_agree():
    scalars = loss_scalars("wiki", math.log(16), tokens_per_byte=0.25)
    assert scalars == pytest.approx(
        {"val/wiki/loss": math.log(16), "val/wiki/perplexity": 16.0, "val/wiki/bits_per_byte": 1.0}
    )

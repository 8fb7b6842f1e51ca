import torch

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.initialization import initialize
from lightning_polycom.training.optimizers import OptimizerConfig, build_optimizer


def decoder(**options) -> Decoder:
    return Decoder(DecoderConfig(31, 16, 2, 2, 32, ActivationConfig("polynorm", **options)))


def test_a_multiplier_gives_the_coefficients_a_group_of_their_own_and_the_schedule_keeps_the_ratio():
    optimizer = build_optimizer(OptimizerConfig(0.1), decoder(learning_rate_multiplier=10.0))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    assert [len(group["params"]) for group in optimizer.param_groups][2] == 4  # coefficients and bias of two layers
    assert optimizer.param_groups[2]["weight_decay"] == 0.0
    assert schedule.get_last_lr() == [0.05, 0.05, 0.5]


def test_coefficients_per_channel_neither_decay_nor_start_at_random():
    model = decoder(scope="channel")
    initialize(model, 0)
    coefficients = model.blocks[0].feed_forward.activation.coefficients
    assert coefficients.shape == (3, 32) and torch.equal(coefficients, torch.full((3, 32), 1 / 3))
    decayed = build_optimizer(OptimizerConfig(), model).param_groups[0]["params"]
    assert all(p is not coefficients for p in decayed)


def test_frozen_coefficients_are_in_no_group():
    model = decoder(frozen=True, learning_rate_multiplier=2.0)
    groups = build_optimizer(OptimizerConfig(), model).param_groups
    activation = model.blocks[0].feed_forward.activation
    assert len(groups) == 2
    assert all(p is not activation.coefficients for group in groups for p in group["params"])

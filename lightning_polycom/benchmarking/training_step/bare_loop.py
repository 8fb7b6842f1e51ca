"""The hand-written loop: forward, backward, clipping, fused AdamW, and nothing else."""

from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import torch
from torch import Tensor

from lightning_polycom.benchmarking.training_step.contenders import SEED, Case, build
from lightning_polycom.benchmarking.training_step.meter import Meter
from lightning_polycom.data.batches import BatchPlan, TrainingStream
from lightning_polycom.data.order import SampleOrder
from lightning_polycom.data.shard_selection import ShardSelection
from lightning_polycom.data.training_data import TrainingData
from lightning_polycom.training.optimizers import OptimizerConfig, build_optimizer

MAX_NORM = 1.0
BATCHES = 64  # of a turn's data that lies ready


def run_bare_loop(case: Case, folder: Path, meter: Meter) -> None:
    """Trains for as many steps as the meter is asked for, until that is none."""
    model, loss = build(case)
    batches = cycle(first_batches(case, folder, meter.device))
    step = training_step(case.precision, model.to(meter.device), loss)
    while steps := meter.wait():
        for input_ids, labels in islice(batches, steps):
            last = step(input_ids, labels)
        meter.answer(last)


def training_step(
    precision: str, model: torch.nn.Module, loss: Callable[[Tensor, Tensor], Tensor]
) -> Callable[[Tensor, Tensor], Tensor]:
    """One optimizer step on (batch, sequence) ids and labels -> the detached loss; settings as those of `fit`."""
    optimizer = build_optimizer(OptimizerConfig(), model)
    device = next(model.parameters()).device.type
    autocast = precision == "bf16-mixed"
    parameters = list(model.parameters())

    def step(input_ids: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            value = loss(input_ids, labels)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()
        return value.detach()

    return step


def first_batches(case: Case, folder: Path, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """The batches that `fit` begins with, on the device: reading them costs the other loops nothing."""
    shape, data = case.training_shape, TrainingData(ShardSelection(folder, None, None, None, None, None))
    order = SampleOrder(data.num_samples(shape.sequence), SEED, data.fingerprint)
    plan = BatchPlan(shape.batch, shape.batch, 1)
    stream = TrainingStream(data.train_shards, order, shape.sequence, plan, rank=0, start=0)
    batches = islice(stream, BATCHES)
    return [tuple(batch[name].contiguous().to(device) for name in ("input_ids", "labels")) for batch in batches]

"""How fast a run's data comes when nothing else is done."""

import time
from itertools import islice

import lightning as L
import torch

from lightning_polycom.benchmarking.benched_run import BenchedRun

SECONDS = 1.0
AHEAD = 4  # steps that were prepared before the clock starts


def measure_data(run: BenchedRun, trainer: L.Trainer, seconds: float = SECONDS) -> float:
    """Tokens per second that the DataModule delivers on one device, through its thread and its copies to a GPU.

    Args:
        run: Whose data.
        trainer: Its trainer, before or after training.
        seconds: How long to read, at least.
    """
    data = run.data()
    data.trainer = trainer
    data.setup("fit")
    batches = iter(data.train_dataloader())
    for _ in islice(batches, AHEAD * run.micro_batches):
        pass
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds or count < AHEAD * run.micro_batches:
        next(batches)
        count += 1
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.synchronize()
    passed = time.perf_counter() - start
    batches.close()
    return count * run.micro_batch_tokens / passed

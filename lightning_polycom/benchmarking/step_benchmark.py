"""A run's training step as it is: its LightningModule in Lightning's own loop."""

from typing import Any, NamedTuple

import lightning as L
import torch

from lightning_polycom.benchmarking.benched_run import BenchedRun
from lightning_polycom.benchmarking.ceilings import Ceilings, product_kind
from lightning_polycom.benchmarking.step_clock import StepClock, StepTimes
from lightning_polycom.training.peak_memory import peak_memory_bytes

# Clipping reads the gradient twice and writes it; AdamW reads gradient, weight and both moments, and writes all but
# the gradient: ten values of fp32.
OPTIMIZER_BYTES = 40  # of a parameter


class OutOfMemory(Exception):
    """A step that the device has no memory for."""


class MeasuredStep(NamedTuple):
    """The run's optimizer step on one device.

    Attributes:
        times: Of the whole step, all its micro-batches counted.
        tokens: Trained on in it.
        peak_memory: Bytes; of the process on a CPU, of tensors on a GPU.
    """

    times: StepTimes
    tokens: int
    peak_memory: int

    @property
    def tokens_per_second(self) -> float:
        """On one device."""
        return self.tokens / self.times.whole


def measure_step(run: BenchedRun, trainer: L.Trainer, repetitions: int) -> MeasuredStep:
    """Trains for some steps, at most two micro-batches each, and reckons the run's own step from them.

    Peak memory is that of the process so far: it is the step's if nothing large came before.

    Args:
        run: What to train.
        trainer: Its trainer, which has not trained yet.
        repetitions: Steps that count.

    Raises:
        OutOfMemory: the device has not enough.
        InputError: whatever `polycom fit` would refuse.
    """
    device = trainer.strategy.root_device
    clock = StepClock(device.type, repetitions)
    trainer.callbacks.append(clock)
    try:
        trainer.fit(run.model, datamodule=run.data())
    except SystemExit as error:
        if trainer.interrupted:  # Lightning has let go of all, and says nothing
            raise KeyboardInterrupt from error
        raise
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise OutOfMemory from error
        raise
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    times = clock.times().scaled(run.micro_batches, run.accumulation)
    return MeasuredStep(times, run.micro_batch_tokens * run.accumulation, peak_memory_bytes(device))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch could not allocate; on a CPU it says so in words only."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in ("can't allocate memory", "CUDA error: out of memory"))


def step_record(run: BenchedRun, step: MeasuredStep, device: str, ceilings: Ceilings | None) -> dict[str, Any]:
    """The step and its shares of the ceilings, for JSON; shares are None where no ceiling was measured.

    `share` is the model FLOPs utilisation of the step: PaLM's FLOPs over the measured peak of its products. Of these
    FLOPs a third belongs to forward, two thirds to backward. The optimizer's share is of the copy's bandwidth.
    """
    config, times = run.model.decoder_config, step.times
    flops = step.tokens * config.flops_per_token(run.data_options["sequence_length"])
    peak = ceilings and ceilings.products[product_kind(run.precision, device)]
    moved = config.num_parameters * OPTIMIZER_BYTES
    bandwidth = ceilings and ceilings.bandwidth
    rates = {
        "forward": (flops / 3 / times.forward, peak),
        "backward": (flops * 2 / 3 / times.backward, peak),
        "optimizer": (moved / times.optimizer, bandwidth),
        "rest": (None, None),
    }
    parts = {
        name: {
            "seconds": getattr(times, name),
            "share_of_step": getattr(times, name) / times.whole,
            "share": rate / ceiling if rate and ceiling else None,
        }
        for name, (rate, ceiling) in rates.items()
    }
    return {
        "seconds": times.whole,
        "measured_steps": times.steps,
        "tokens_per_second": step.tokens_per_second,
        "flops_per_second": flops / times.whole,
        "share": flops / times.whole / peak if peak else None,
        "peak_memory_bytes": step.peak_memory,
        "parts": parts,
    }

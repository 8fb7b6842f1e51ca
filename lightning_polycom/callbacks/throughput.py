"""Speed, memory and progress of a run."""

import time

import lightning as L
import torch
from lightning.fabric.utilities.throughput import get_available_flops

from lightning_polycom.training.peak_memory import peak_memory_bytes
from lightning_polycom.training.scalars import log_scalars


class Throughput(L.Callback):
    """Logs tokens per second, model FLOPs utilisation, data wait, peak memory, tokens, epochs and FLOPs so far.

    Time is counted from the request for a batch to the end of its step; validation, evaluation, checkpoints and the
    first step (allocation, compilation) are left out. MFU uses PaLM's FLOPs and the device's dense peak, and is
    logged on devices whose peak is known.
    """

    def __init__(self) -> None:
        self.total_seconds, self.total_tokens = 0.0, 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clocks."""
        self._logged_step = self._first_step = trainer.global_step
        self._restart_interval(trainer)
        self._flops_per_token = pl_module.decoder_config.flops_per_token(trainer.datamodule.sequence_length)

    def on_train_batch_start(self, trainer: L.Trainer, *_) -> None:
        """Notes when the step began."""
        self._batch_start = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_) -> None:
        """Adds the step's time; logs at the trainer's interval."""
        self._busy_seconds += time.perf_counter() - self._batch_start
        if trainer.global_step == self._logged_step:
            return
        if trainer.global_step == self._first_step + 1:
            self._restart_interval(trainer)
        elif trainer.global_step % trainer.log_every_n_steps == 0:
            self._log(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Counts the steps after the last logging interval."""
        if trainer.global_step > self._logged_step:
            self._log(trainer)

    @property
    def tokens_per_second(self) -> float:
        """Mean over the whole run so far; 0 before the second step."""
        return self.total_tokens / self.total_seconds if self.total_seconds else 0.0

    def _log(self, trainer: L.Trainer) -> None:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        data = trainer.datamodule
        wait = data.wait_seconds - self._wait_at_start
        seconds = self._busy_seconds + wait
        tokens = (trainer.global_step - self._logged_step) * data.tokens_per_step
        self.total_seconds, self.total_tokens = self.total_seconds + seconds, self.total_tokens + tokens
        trained = data.samples_trained * data.sequence_length
        scalars = {
            "throughput/tokens_per_second": tokens / seconds,
            "throughput/data_wait_fraction": wait / seconds,
            "memory/peak_gib": peak_memory_bytes(trainer.strategy.root_device) / 2**30,
            "progress/tokens": trained,
            "progress/flops": trained * self._flops_per_token,
            **{f"progress/epochs/{domain}": epochs for domain, epochs in data.epochs.items()},
        }
        peak = _peak_flops(trainer)
        if peak is not None:
            scalars["throughput/mfu"] = tokens / seconds * self._flops_per_token / (peak * trainer.world_size)
        log_scalars(trainer, scalars)
        self._restart_interval(trainer)

    def _restart_interval(self, trainer: L.Trainer) -> None:
        self._logged_step, self._busy_seconds = trainer.global_step, 0.0
        self._wait_at_start = trainer.datamodule.wait_seconds


def _peak_flops(trainer: L.Trainer) -> float | None:
    """Dense FLOP/s peak of one device at the run's precision, or None where it is not known (CPUs)."""
    if trainer.strategy.root_device.type != "cuda":
        return None
    dtype = torch.bfloat16 if "bf16" in str(trainer.precision) else torch.float32
    return get_available_flops(trainer.strategy.root_device, dtype)

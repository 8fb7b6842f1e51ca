"""What a run's devices took from the mains."""

import math
from typing import Any

import lightning as L
import torch

from lightning_polycom.training.energy_meters import LOST, Meter, open_meter
from lightning_polycom.training.scalars import log_scalars

KEY = "energy_joules"  # of checkpoints


class Energy(L.Callback):
    """Logs `energy/joules`, all since step 0, at the trainer's interval, where the devices have meters.

    It counts what `Throughput` times, so that joules per second are watts: from the second step of a start on, without
    validation, evaluation, analyses and checkpoints. It is the sum over GPUs, or over the CPU packages of all nodes. It
    goes on from the checkpoint's sum. Nothing is logged where a rank has no meter, or where a part of the run was not
    measured; if that part comes after a logged sum, one nan is logged, so that the sum is not taken for the whole.
    """

    def __init__(self) -> None:
        self._before: float | None = 0.0  # over all ranks until this start; None if nothing is to be logged
        self._own, self._is_counting = 0.0, False
        self._meter: Meter | None = None

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Goes on from the checkpoint's sum."""
        self._before = checkpoint.get(KEY)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Opens the meters. Collective."""
        self._first_step = self._logged_step = trainer.global_step
        meter = open_meter(trainer.strategy.root_device, trainer.local_rank)
        if trainer.strategy.reduce_boolean_decision(meter is not None):
            self._meter = meter
        elif self._before:
            self._own = LOST
        else:
            self._before = None

    def on_train_batch_start(self, trainer: L.Trainer, *_) -> None:
        """Counts from here on, after the first step and after a pause."""
        if not self._is_counting and self._meter is not None and trainer.global_step > self._first_step:
            self._meter.read()
            self._is_counting = True

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_) -> None:
        """Follows a meter that wraps around, which only CPUs have; logs at the trainer's interval. Collective."""
        if self._is_counting and self._meter.wraps:
            self._own += self._meter.read()
        if trainer.global_step != self._logged_step and trainer.global_step % trainer.log_every_n_steps == 0:
            self._log(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Pauses."""
        self.pause(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Pauses, and leaves the sum in the checkpoint. Collective."""
        self.pause(trainer)
        checkpoint[KEY] = self._total(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs the steps after the last logging interval. Collective."""
        if trainer.global_step != self._logged_step:
            self._log(trainer)
        self.pause(trainer)

    def pause(self, trainer: L.Trainer) -> None:
        """Leaves out what comes until the next step begins."""
        self._take(trainer)
        self._is_counting = False

    def _log(self, trainer: L.Trainer) -> None:
        self._logged_step = trainer.global_step
        self._take(trainer)
        total = self._total(trainer)
        if total:  # 0: nothing was counted yet
            log_scalars(trainer, {"energy/joules": total})
            if math.isnan(total):
                self._before = None

    def _take(self, trainer: L.Trainer) -> None:
        if not self._is_counting:
            return
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()  # between steps, where Throughput does too
        self._own += self._meter.read()

    def _total(self, trainer: L.Trainer) -> float | None:
        """Joules over all ranks since step 0; the same on every rank."""
        if self._before is None:
            return None
        own = self._own
        if trainer.world_size > 1:
            summand = torch.tensor(own, dtype=torch.float64, device=trainer.strategy.root_device)
            own = float(trainer.strategy.reduce(summand, reduce_op="sum"))
        return self._before + own


def pause_energy(trainer: L.Trainer) -> None:
    """Leaves out of `energy/joules` what comes until the next step begins; for callbacks that take a while."""
    for callback in trainer.callbacks:
        if isinstance(callback, Energy):
            callback.pause(trainer)

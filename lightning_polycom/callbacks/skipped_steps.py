"""Tells of the steps that were not applied, and ends a run that applies none."""

import lightning as L

from lightning_polycom.errors import InputError
from lightning_polycom.training.scalars import log_scalars
from lightning_polycom.training.step_guard import SkippedStep, stop_message

MAX_LINES = 10


class SkippedSteps(L.Callback):
    """Logs `optim/skipped_steps`, all since step 0, at the trainer's interval; prints a line for each new one.

    Stops the run where the last `max_in_a_row` steps or more were all skipped. The steps are judged by the module's
    `step_guard`; here is the only place where the host reads what was decided.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reads nothing before the first step."""
        self._read_step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_) -> None:
        """Reads after every `log_every_n_steps` optimizer steps.

        Raises:
            InputError: on every rank, after too many skipped steps in a row. Nothing is saved.
        """
        if trainer.global_step % trainer.log_every_n_steps == 0 and trainer.global_step != self._read_step:
            self._read(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reads the steps after the last logging interval, before the end of training is saved."""
        if trainer.global_step != self._read_step:
            self._read(trainer, pl_module)

    def _read(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._read_step, guard = trainer.global_step, pl_module.step_guard
        skipped = guard.read()
        log_scalars(trainer, {"optim/skipped_steps": float(skipped.total)})
        if trainer.is_global_zero:
            _print(skipped.new)
        if skipped.in_a_row >= guard.config.max_in_a_row:
            raise InputError(stop_message(guard.config, skipped, trainer.global_step))


def _print(new: list[SkippedStep]) -> None:
    for skipped in new[:MAX_LINES]:
        print(f"skipped {skipped}")
    if len(new) > MAX_LINES:
        print(f"skipped {len(new) - MAX_LINES} more, the last {new[-1]}")

"""Checkpoints by optimizer step."""

import os
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from lightning_polycom.errors import InputError


class StepCheckpoint(Checkpoint):
    """Saves checkpoints/step-<n>.ckpt every `every_n_steps` optimizer steps and at the end of training.

    `last.ckpt` is a pointer (a symbolic link) to the newest one. Lightning writes each file under a temporary name
    and renames it, so a file that has its name is complete.

    Args:
        every_n_steps: Interval in optimizer steps.
        keep_last: Newest checkpoints kept; older ones are deleted. 0 keeps all.
    """

    def __init__(self, every_n_steps: int = 1000, keep_last: int = 2):
        if every_n_steps < 1:
            raise InputError(f"checkpoint.every_n_steps: found {every_n_steps}; it must be at least 1")
        if keep_last < 0:
            raise InputError(f"checkpoint.keep_last: found {keep_last}; give 0 to keep all, or a number of files")
        self.every_n_steps, self.keep_last = every_n_steps, keep_last
        self._last_saved = -1

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A resumed run starts from a step that is already saved."""
        self._last_saved = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *_) -> None:
        """Saves after an optimizer step whose number is a multiple of the interval."""
        self.save_if_due(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves the end of training, whatever its step."""
        self.save(trainer)

    def save_if_due(self, trainer: L.Trainer) -> None:
        """Saves the current step if it is a multiple of the interval and not saved yet."""
        if trainer.global_step % self.every_n_steps == 0:
            self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Saves the current step if it is not saved yet."""
        if trainer.global_step == self._last_saved:
            return
        self._last_saved = trainer.global_step
        folder = Path(trainer.default_root_dir) / "checkpoints"
        name = f"step-{trainer.global_step:08d}.ckpt"
        trainer.save_checkpoint(folder / name)
        if trainer.is_global_zero:
            self._point_and_prune(folder, name)

    def _point_and_prune(self, folder: Path, name: str) -> None:
        pointer = folder / f".last.{os.getpid()}.tmp"
        pointer.unlink(missing_ok=True)
        pointer.symlink_to(name)
        pointer.replace(folder / "last.ckpt")
        if self.keep_last:
            for old in sorted(folder.glob("step-*.ckpt"))[: -self.keep_last]:
                old.unlink()

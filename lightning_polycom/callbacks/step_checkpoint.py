"""Checkpoints by optimizer step."""

import os
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from lightning_polycom.checkpoints.complete import remove, remove_leftovers
from lightning_polycom.errors import InputError
from lightning_polycom.training.fsdp_strategy import FSDP2Strategy


class StepCheckpoint(Checkpoint):
    """Saves checkpoints/step-<n>.ckpt every `every_n_steps` optimizer steps and at the end of training.

    A file, or under FSDP2 a folder that all ranks write. It is written under a temporary name and renamed, so what has
    its name is complete. `last.ckpt` is a pointer (a symbolic link) to the newest one.

    Args:
        every_n_steps: Interval in optimizer steps.
        keep_last: Newest checkpoints kept; older ones are deleted. 0 keeps all.
        keep_every_n_steps: Checkpoints of steps that are multiples of this are never deleted; a multiple of
            every_n_steps.
    """

    def __init__(self, every_n_steps: int = 1000, keep_last: int = 2, keep_every_n_steps: int | None = None):
        if every_n_steps < 1:
            raise InputError(f"checkpoint.every_n_steps: found {every_n_steps}; it must be at least 1")
        if keep_last < 0:
            raise InputError(f"checkpoint.keep_last: found {keep_last}; give 0 to keep all, or a number of checkpoints")
        if keep_every_n_steps is not None and (keep_every_n_steps < 1 or keep_every_n_steps % every_n_steps):
            raise InputError(
                f"checkpoint.keep_every_n_steps: found {keep_every_n_steps}; "
                f"give a multiple of every_n_steps, {every_n_steps}"
            )
        self.every_n_steps, self.keep_last, self.keep_every_n_steps = every_n_steps, keep_last, keep_every_n_steps
        self._last_saved = -1

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A resumed run starts from a step that is already saved; what a killed save has left is deleted."""
        self._last_saved = trainer.global_step
        if trainer.is_global_zero:
            remove_leftovers(_folder(trainer))

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
        """Saves the current step if it is not saved yet. Collective.

        Raises:
            InputError: on every rank, if it cannot be written; earlier checkpoints are as they were.
        """
        if trainer.global_step == self._last_saved:
            return
        self._last_saved = trainer.global_step
        path = _folder(trainer) / f"step-{trainer.global_step:08d}.ckpt"
        problem = None
        try:
            trainer.save_checkpoint(path)
        except InputError as error:
            problem = str(error)
            if not isinstance(trainer.strategy, FSDP2Strategy):
                trainer.strategy.barrier()  # where the ranks that write nothing wait
        problem = trainer.strategy.broadcast(problem)
        if problem is not None:
            raise InputError(problem)
        if trainer.is_global_zero:
            self._point_and_prune(path)

    def _point_and_prune(self, path: Path) -> None:
        folder = path.parent
        pointer = folder / f".last.{os.getpid()}.tmp"
        pointer.unlink(missing_ok=True)
        pointer.symlink_to(path.name)
        pointer.replace(folder / "last.ckpt")
        if self.keep_last:
            for old in sorted(folder.glob("step-*.ckpt"))[: -self.keep_last]:
                if not self._is_permanent(old):
                    remove(old)

    def _is_permanent(self, path: Path) -> bool:
        step = path.stem.removeprefix("step-")
        return bool(self.keep_every_n_steps) and step.isdigit() and int(step) % self.keep_every_n_steps == 0


def _folder(trainer: L.Trainer) -> Path:
    return Path(trainer.default_root_dir) / "checkpoints"

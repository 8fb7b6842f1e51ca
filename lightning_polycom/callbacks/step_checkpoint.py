"""Checkpoints by optimizer step."""

import os
import time
from functools import partial
from pathlib import Path

import lightning as L
import torch.distributed
from lightning.pytorch.callbacks import Checkpoint

from lightning_polycom.checkpoints.background import Save
from lightning_polycom.checkpoints.complete import remove, remove_leftovers
from lightning_polycom.checkpoints.sharded import cannot_be_saved
from lightning_polycom.errors import InputError
from lightning_polycom.training.fsdp_strategy import FSDP2Strategy


class StepCheckpoint(Checkpoint):
    """Saves checkpoints/step-<n>.ckpt every `every_n_steps` optimizer steps and at the end of training.

    A file, or under FSDP2 a folder that all ranks write. It is written under a temporary name and renamed, so what has
    its name is complete. `last.ckpt` is a pointer (a symbolic link) to the newest one.

    Training waits for a copy of the state in CPU memory; the copy is written while it goes on. One save is in flight at
    most: the next one that is due waits for it, and so does the end of the run, whatever ends it. A save that fails
    ends the run at the next logged step, where all ranks learn of it.

    Args:
        every_n_steps: Interval in optimizer steps.
        keep_last: Newest checkpoints kept; older ones are deleted. 0 keeps all.
        keep_every_n_steps: Checkpoints of steps that are multiples of this are never deleted; a multiple of
            every_n_steps.
        asynchronous: Whether training goes on while a copy of the state is written. The copy takes CPU memory: weights
            and optimizer of one rank. Otherwise training waits for the disk.
    """

    def __init__(
        self,
        every_n_steps: int = 1000,
        keep_last: int = 2,
        keep_every_n_steps: int | None = None,
        asynchronous: bool = True,
    ):
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
        self.asynchronous = asynchronous
        self._last_saved = -1
        self._in_flight: Save | None = None
        self._group: torch.distributed.ProcessGroup | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A resumed run starts from a step that is already saved; what a killed save has left is deleted."""
        self._last_saved = trainer.global_step
        if trainer.is_global_zero:
            remove_leftovers(_folder(trainer))
        if self.asynchronous and isinstance(trainer.strategy, FSDP2Strategy):
            # The background's collectives must not meet those of training.
            self._group = torch.distributed.new_group(backend="gloo")

    def on_train_batch_end(self, trainer: L.Trainer, *_) -> None:
        """Saves after an optimizer step whose number is a multiple of the interval."""
        self.save_if_due(trainer)
        # Where ranks exchange numbers anyway: in every step it would cost.
        is_logged = trainer.global_step % trainer.log_every_n_steps == 0
        if self._in_flight and is_logged and trainer.strategy.reduce_boolean_decision(self._in_flight.is_done):
            self.finish(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves the end of training, whatever its step."""
        self.save(trainer)
        self.finish(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Lets the save in flight end, in this process alone: the others may be elsewhere."""
        save, self._in_flight = self._in_flight, None
        if save is not None:
            save.wait()
            if save.problem is not None and trainer.is_global_zero:
                print(save.problem)

    def save_if_due(self, trainer: L.Trainer) -> None:
        """Saves the current step if it is a multiple of the interval and not saved yet."""
        if trainer.global_step % self.every_n_steps == 0:
            self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Saves the current step, or begins to, if it is not saved yet. Collective.

        Raises:
            InputError: on every rank, if it, or the one before, cannot be written; earlier ones are as they were.
        """
        if trainer.global_step == self._last_saved:
            return
        self._wait_for_the_one_before(trainer)
        self._last_saved = trainer.global_step
        path = _folder(trainer) / f"step-{trainer.global_step:08d}.ckpt"
        then = partial(self._point_and_prune, path) if trainer.is_global_zero else _nothing
        self._in_flight = Save(self.asynchronous, then, self._group)
        trainer.save_checkpoint(path, storage_options=self._in_flight)
        if not self.asynchronous:
            self.finish(trainer)

    def finish(self, trainer: L.Trainer) -> None:
        """Waits for the save in flight, if there is one. Collective.

        Raises:
            InputError: on every rank, if it could not be written; earlier checkpoints are as they were.
        """
        save, self._in_flight = self._in_flight, None
        if save is None:
            return
        save.wait()
        problem = save.problem
        is_bug = problem is not None and not isinstance(problem, InputError)
        # All ranks learn of it before one raises: else the others would wait for that one.
        if trainer.strategy.reduce_boolean_decision(is_bug, all=False):
            raise problem if is_bug else RuntimeError("another process could not write its part of the checkpoint")
        problem = trainer.strategy.broadcast(None if problem is None else str(problem))
        if problem is not None:
            raise InputError(problem)

    def _wait_for_the_one_before(self, trainer: L.Trainer) -> None:
        before, begun = self._last_saved, time.monotonic()
        waits = self._in_flight is not None and not self._in_flight.is_done
        self.finish(trainer)
        if waits and trainer.is_global_zero:
            print(
                f"checkpoint: step {trainer.global_step} waited {time.monotonic() - begun:.1f} s until step {before} "
                "was written; a longer checkpoint.every_n_steps avoids it"
            )

    def _point_and_prune(self, path: Path) -> None:
        try:
            _point(path)
            for old in sorted(path.parent.glob("step-*.ckpt"))[: -self.keep_last] if self.keep_last else ():
                if not self._is_permanent(old):
                    remove(old)
        except OSError as error:
            raise cannot_be_saved(path, error) from error

    def _is_permanent(self, path: Path) -> bool:
        step = path.stem.removeprefix("step-")
        return bool(self.keep_every_n_steps) and step.isdigit() and int(step) % self.keep_every_n_steps == 0


def _point(path: Path) -> None:
    """Makes last.ckpt a link to the checkpoint."""
    pointer = path.with_name(f".last.{os.getpid()}.tmp")
    pointer.unlink(missing_ok=True)
    pointer.symlink_to(path.name)
    pointer.replace(path.with_name("last.ckpt"))


def _nothing() -> None:
    """What follows on a save in the processes beside the first."""


def _folder(trainer: L.Trainer) -> Path:
    return Path(trainer.default_root_dir) / "checkpoints"

"""Ends a run in good order when its time is up."""

import signal
import time
from types import FrameType

import lightning as L
import torch
import torch.distributed
from lightning.pytorch.callbacks import Timer

EXIT_CODE = 75  # sysexits.h: a temporary failure, try again
TIME_UP = 1  # beside the signals' own numbers; SIGHUP, which has it, is not listened to
REASONS = {TIME_UP: "trainer.max_time", int(signal.SIGTERM): "SIGTERM", int(signal.SIGUSR1): "SIGUSR1"}


class Preemption(L.Callback):
    """Stops after the optimizer step in which SIGTERM or SIGUSR1 came to any rank, or trainer.max_time ran out.

    The checkpoint callback then saves that step; validation and evaluation are left out, because little time may be
    left. The signal handler only makes a note: all ranks agree at the end of the step, in which no collective is
    under way.

    Attributes:
        reason: What stopped the run, or None.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._seen, self._seconds, self._group = 0, float("inf"), None
        self._handlers: dict[int, object] = {}

    def take_over(self, timer: Timer) -> None:
        """Measures trainer.max_time, from this start on, in the place of Lightning's callback.

        That one counts the time before a resume as well, and stops in the middle of an optimizer step.
        """
        self._seconds = timer.time_remaining()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listens, after Lightning has put its own handlers in place, which would deadlock under FSDP2."""
        self._end, self._step = time.monotonic() + self._seconds, trainer.global_step
        self._handlers = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGUSR1)}
        if trainer.world_size > 1 and torch.distributed.get_backend() != "gloo":
            # On the CPU, so that agreeing in every step does not wait for the GPU.
            self._group = torch.distributed.new_group(backend="gloo")

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_) -> None:
        """Stops after an optimizer step, not between its micro-batches."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        seen = self._agreed(trainer.world_size)
        if seen and trainer.global_step < trainer.max_steps:
            self.reason = REASONS[seen]
            trainer.limit_val_batches = 0  # Lightning validates a run that stops early
            trainer.should_stop = True

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Says what happened and how to go on."""
        if self.reason is not None and trainer.is_global_zero:
            print(
                f"stopped by {self.reason} at step {trainer.global_step} of {trainer.max_steps}, which is saved in "
                f"{trainer.default_root_dir}; --ckpt_path auto goes on (exit code {EXIT_CODE})"
            )

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Puts the former handlers back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._seen = number

    def _agreed(self, world_size: int) -> int:
        """What any rank has seen, on every rank."""
        seen = self._seen or (TIME_UP if time.monotonic() >= self._end else 0)
        if world_size == 1:
            return seen
        value = torch.tensor(seen)
        torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX, group=self._group)
        return int(value)


def stopped_by(trainer: L.Trainer) -> str | None:
    """What has stopped the run before its end, or None."""
    return next((c.reason for c in trainer.callbacks if isinstance(c, Preemption) and c.reason), None)

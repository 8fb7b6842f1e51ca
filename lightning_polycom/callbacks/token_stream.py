"""Records a running hash of what a run trains on, so that runs can be shown to have seen the same."""

from typing import Any

import lightning as L
import torch

from lightning_polycom.callbacks.run_record import add_to_record
from lightning_polycom.data.stream_hash import MODULUS

KEY = "token_stream"  # of checkpoints and of run.json
_HALF = 1 << 32


class TokenStream(L.Callback):
    """Writes run.json's `token_stream`: optimizer step -> hash of all samples until then, in hexadecimal.

    The hash is `data.stream_hash`'s: the same for any number of ranks, micro-batches and starts. Batches bring theirs
    from the CPU, and this adds them up as Python numbers. Ranks exchange sums only where one is recorded: at every
    checkpoint, every validation and the end of training. The sum goes on from the checkpoint's; one from before this
    was recorded has none, and then nothing is recorded.
    """

    def __init__(self) -> None:
        self._before, self._own = 0, 0  # the sum over all ranks until this start, and this rank's since
        self._recorded: dict[str, str] | None = {}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Goes on from the checkpoint's sum."""
        self._recorded = dict(checkpoint[KEY]) if checkpoint.get(KEY) else None
        if self._recorded is not None:
            self._before = int(self._recorded[max(self._recorded, key=int)], 16)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes what is known from before."""
        add_to_record(trainer, {KEY: self._recorded})

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, *_) -> None:
        """Adds the micro-batch's samples."""
        self._own += batch["samples_hash"]

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Records before each validation of a run that trains. Collective."""
        if trainer.training or (trainer.validating and trainer.state.fn == "fit"):
            self._record(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Records, and leaves all that is recorded in the checkpoint. Collective."""
        self._record(trainer)
        checkpoint[KEY] = None if self._recorded is None else dict(self._recorded)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Records the last step. Collective."""
        self._record(trainer)

    def _record(self, trainer: L.Trainer) -> None:
        step = str(trainer.global_step)
        if self._recorded is None or step in self._recorded:
            return
        own = self._own % MODULUS
        if trainer.world_size > 1:
            # In halves, whose sums over ranks do not overflow.
            halves = torch.tensor([own % _HALF, own // _HALF], device=trainer.strategy.root_device)
            low, high = trainer.strategy.reduce(halves, reduce_op="sum").tolist()
            own = (high * _HALF + low) % MODULUS
        self._recorded[step] = f"{(self._before + own) % MODULUS:016x}"
        add_to_record(trainer, {KEY: self._recorded})

"""A callback that counts a real run's live tensors; given to `polycom fit` by its import path."""

from contextlib import ExitStack
from pathlib import Path

import lightning as L
import torch

from lightning_polycom.training.live_bytes import LiveBytes


class LiveBytesRecorder(L.Callback):
    """Writes the most bytes that were alive at once in the last optimizer step to `folder`/rank-<r>."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_train_start(self, trainer, pl_module):
        self.ends = ExitStack()
        self.ends.enter_context(torch.autograd.set_multithreading_enabled(False))
        self.counted = self.ends.enter_context(LiveBytes(pl_module.parameters()))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == (trainer.max_steps - 1) * trainer.accumulate_grad_batches:
            self.counted.restart()

    def on_train_end(self, trainer, pl_module):
        self.ends.close()
        (self.folder / f"rank-{trainer.global_rank}").write_text(str(self.counted.peak))

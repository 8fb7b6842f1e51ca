"""A callback that counts a real run's live tensors; given to `polycom fit` by its import path."""

from pathlib import Path

import lightning as L
import torch

from lightning_polycom.training.live_bytes import LiveBytes


class LiveBytesRecorder(L.Callback):
    """Writes the most bytes that were alive at once from the third optimizer step on to `folder`/rank-<r>."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_train_start(self, trainer, pl_module):
        torch.autograd.set_multithreading_enabled(False)
        self.counted = LiveBytes(pl_module.parameters())
        self.counted.__enter__()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 2 and batch_idx == 2 * trainer.accumulate_grad_batches:
            self.counted.restart()

    def on_train_end(self, trainer, pl_module):
        self.counted.__exit__(None, None, None)
        (self.folder / f"rank-{trainer.global_rank}").write_text(str(self.counted.peak))

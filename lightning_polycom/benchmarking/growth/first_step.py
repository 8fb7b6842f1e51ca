"""A callback that tells the process above when the first optimizer step is made."""

import lightning as L

from lightning_polycom.benchmarking.growth.start_up import MARK


class FirstStep(L.Callback):
    """Prints a line when `global_step` has left its first value."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes where the run begins."""
        self._start: int | None = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        """Prints once."""
        if self._start is not None and trainer.global_step > self._start:
            self._start = None
            print(f"\n{MARK}", flush=True)

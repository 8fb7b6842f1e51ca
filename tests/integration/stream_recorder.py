"""A callback that writes down every window that a rank trains on, and that kills the run where it is told to."""

import json
import os
import signal
from pathlib import Path

import lightning as L


class StreamRecorder(L.Callback):
    """Appends a line for each micro-batch to `folder`/<start>/rank-<r>.jsonl, flushed before it is trained on.

    The start's name is in RECORD_START. KILL_AT, `<step>:batch` or `<step>:save`, sends SIGKILL to all processes of the
    start when its first rank begins to train that optimizer step, or begins to save its checkpoint.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder) / os.environ.get("RECORD_START", "straight")
        step, _, self.place = os.environ.get("KILL_AT", "-1:").partition(":")
        self.kill_step, self._step, self._part = int(step), -1, 0

    def on_train_start(self, trainer, pl_module):
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = (self.folder / f"rank-{trainer.global_rank}.jsonl").open("w")

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self._part = self._part + 1 if trainer.global_step == self._step else 0
        self._step = trainer.global_step
        windows = [
            [ids[0], *labels] for ids, labels in zip(*(batch[k].tolist() for k in ("input_ids", "labels")), strict=1)
        ]
        line = {"step": self._step, "part": self._part, "rank": trainer.global_rank, "windows": windows}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._kill(trainer, "batch")

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        self._kill(trainer, "save")

    def _kill(self, trainer, place):
        if trainer.is_global_zero and (trainer.global_step, place) == (self.kill_step, self.place):
            os.killpg(os.getpgid(0), signal.SIGKILL)

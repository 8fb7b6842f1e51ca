"""A callback that counts how often gradients are reduced."""

import json
from pathlib import Path

import lightning as L
from torch.utils._python_dispatch import TorchDispatchMode


class CountReductions(L.Callback):
    """Writes <folder>/reductions-<rank>.json: the reduce-scatters of each micro-batch."""

    def __init__(self, folder: str):
        self.folder, self.counts = Path(folder), []

    def on_train_batch_start(self, *_):
        self.mode = Collectives()
        self.mode.__enter__()

    def on_train_batch_end(self, trainer, *_):
        self.mode.__exit__(None, None, None)
        self.counts.append(self.mode.reductions)
        (self.folder / f"reductions-{trainer.global_rank}.json").write_text(json.dumps(self.counts))


class Collectives(TorchDispatchMode):
    reductions = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.reductions += "reduce_scatter" in function._schema.name
        return function(*args, **(kwargs or {}))

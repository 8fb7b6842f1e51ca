"""`polycom fit` as a user runs it, made to pause between turns."""

import sys
from pathlib import Path

import lightning as L
import yaml
from torch import Tensor

from lightning_polycom.benchmarking.training_step.contenders import SEED, Case
from lightning_polycom.benchmarking.training_step.meter import Meter

ENDLESS = 10**6  # optimizer steps: no checkpoint, validation or end comes in between


class Pause(L.Callback):
    """Stops between two optimizer steps until the meter is asked for more.

    A turn goes from one pause to the next: whatever the loop does for a step is in it, once for each step.
    """

    meter: Meter  # set before the run that makes one of this class, by its import path

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Waits for the first order."""
        self._left = self.meter.wait()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: dict[str, Tensor], *_
    ) -> None:
        """Counts the steps of the turn."""
        self._left -= 1
        if not self._left:
            self.meter.answer(outputs["loss"])
            self._left = self.meter.wait()
            if not self._left:
                trainer.should_stop = True
                trainer.limit_val_batches = 0  # Lightning validates a run that stops early


def run_fit(case: Case, folder: Path, meter: Meter, runs: Path) -> None:
    """Trains on the prepared `folder` through the command line until no step is asked for.

    The run's folder comes under `runs`.
    """
    from lightning_polycom.cli import main

    Pause.meter = meter
    config = runs / f"{case.contender}.yaml"
    config.write_text(yaml.safe_dump(settings(case, folder, runs)), encoding="utf-8")
    sys.argv = ["polycom", "fit", "--config", str(config)]
    main()


def settings(case: Case, folder: Path, runs: Path) -> dict:
    """The config file: what it leaves out is as for every user, logging to TensorBoard and a file included."""
    shape = case.training_shape
    sizes = ("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size")
    decoder = {name: getattr(shape, name) for name in sizes}
    decoder |= {"max_sequence_length": shape.sequence, "activation": {"name": case.activation}}
    if shape.mixture is not None:
        decoder |= {"qk_norm": "width", "mixture_of_experts": vars(shape.mixture)}
    return {
        "seed_everything": SEED,
        "run": {"name": "benchmark", "root": str(runs)},
        "model": {
            "seed": SEED,
            "compile": case.compiled,
            "decoder": decoder,
            "schedule": {"name": "constant", "warmup_steps": 0},
        },
        "data": {
            "folder": str(folder),
            "seed": SEED,
            "sequence_length": shape.sequence,
            "global_batch_size": shape.batch,
            "micro_batch_size": shape.batch,
            "max_validation_tokens": shape.sequence,
        },
        "trainer": {
            "accelerator": case.device,
            "devices": 1,
            "precision": case.precision,
            "max_steps": ENDLESS,
            "val_check_interval": ENDLESS,
            "callbacks": [{"class_path": f"{Pause.__module__}.Pause"}],
        },
        "checkpoint": {"every_n_steps": ENDLESS},
    }

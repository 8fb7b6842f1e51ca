"""What a run was: config.yaml and run.json."""

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch

from lightning_polycom.atomic import write_json, write_text
from lightning_polycom.training.scalars import MetricsFile

PACKAGES = ("lightning-polycom", "torch", "lightning", "lm-eval", "tokenizers", "numpy")


def add_to_record(trainer: L.Trainer, facts: dict[str, Any]) -> None:
    """Adds `facts` to the run.json of the run in progress."""
    for callback in trainer.callbacks:
        if isinstance(callback, RunRecord):
            callback.add(trainer, facts)


class RunRecord(L.Callback):
    """Writes the resolved config.yaml, run.json and a copy of the tokenizer into the run's folder.

    run.json's `status` is `running` until training ends, then `finished`, `stopped` before its last step, or the name
    of the exception, so that an unfinished run can be told from a finished one.
    """

    def __init__(self, parser: Any, config: Any):
        self.parser, self.config = parser, config
        self._record: dict[str, Any] | None = None
        self._added: dict[str, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes everything, on the first rank, once data, tasks and a checkpoint to resume were found good."""
        if not trainer.is_global_zero:
            return
        folder, data = Path(trainer.default_root_dir), trainer.datamodule
        # Not parser.save, which changes the working directory while other threads write to relative paths.
        write_text(folder / "config.yaml", self.parser.dump(self.config, skip_none=False))
        data.training_data.save_tokenizer(folder / "tokenizer.json")
        self._record = {"status": "running", **_facts(trainer, pl_module), **self._added}
        write_json(folder / "run.json", self._record)
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile):
                logger.discard_after(trainer.global_step)  # a resumed run writes the rest again

    def add(self, trainer: L.Trainer, facts: dict[str, Any]) -> None:
        """Adds what other callbacks know of the run to run.json, at once or when training starts."""
        self._added |= facts
        if self._record is not None:  # on the first rank
            self._record |= facts
            write_json(Path(trainer.default_root_dir) / "run.json", self._record)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Marks the run as finished, or as stopped before its last step."""
        self._close(trainer, "finished" if trainer.global_step >= trainer.max_steps else "stopped")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Marks the run with what ended it."""
        self._close(trainer, type(exception).__name__)

    def _close(self, trainer: L.Trainer, status: str) -> None:
        if self._record is not None:
            end = {"status": status, "steps": trainer.global_step, "ended": _now()}
            write_json(Path(trainer.default_root_dir) / "run.json", {**self._record, **end})


def _facts(trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
    config, data = pl_module.decoder_config, trainer.datamodule
    tokenizer = data.training_data.tokenizer
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": _now(),
        "git_commit": _git_commit(),
        "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES},
        "device": _device_name(trainer.strategy.root_device),
        "num_threads": torch.get_num_threads(),
        "world_size": trainer.world_size,
        "precision": str(trainer.precision),
        "max_steps": trainer.max_steps,
        "tokens_per_step": data.tokens_per_step,
        "data_folder": None if data.folder is None else str(data.folder),
        "data_fingerprint": data.training_data.fingerprint,
        "data_domains": [record._asdict() for record in data.training_data.records()],
        "data_changes": [change._asdict() for change in data.data_changes],
        "data_mixture": [{"from_sample": start, "weights": weights} for start, weights in data.weightings],
        "tokenizer": {
            "eos_token": tokenizer.eos_token,
            "bos_token": tokenizer.bos_token,
            "sha256": tokenizer.sha256,
        },
        "initial_weights": pl_module.hparams["initial_weights"],
        "activation": config.activation.name,
        "num_parameters": config.num_parameters,
        "num_active_parameters": config.num_active_parameters,
        "flops_per_token": config.flops_per_token(data.sequence_length),
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _git_commit() -> str | None:
    """The commit of the working directory, marked `-dirty` where files differ from it; None outside a repository."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:  # git is not installed
        return None
    return found.stdout.strip() or None


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"

"""A run's real model, data and trainer, made for a few steps of it on one device."""

import logging
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException

from lightning_polycom.benchmarking.random_shards import write_random_shards
from lightning_polycom.data.batches import BatchPlan
from lightning_polycom.data.datamodule import TokenDataModule
from lightning_polycom.data.manifest import FILE_NAME
from lightning_polycom.errors import InputError
from lightning_polycom.training.module import LanguageModel
from lightning_polycom.training.no_profiler import NoProfiler
from lightning_polycom.training.schedules import ScheduleConfig

MICRO_BATCHES = 2  # of a measured step at most: what a later one does is what the second one does
RANDOM_TOKENS = 2**20
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class BenchedRun:
    """What is measured of a run.

    Attributes:
        model: Its LightningModule, not built yet.
        data_options: What its DataModule is made with.
        trainer_options: What its Trainer is made with.
        accumulation: Micro-batches of the run's own optimizer step on one device.
        micro_batches: Of them, how many a measured step has.
        text: Where the tokens come from, for a person.
    """

    model: LanguageModel
    data_options: dict[str, Any]
    trainer_options: dict[str, Any]
    accumulation: int
    micro_batches: int
    text: str

    @property
    def micro_batch_tokens(self) -> int:
        """Tokens of a forward pass."""
        return self.data_options["micro_batch_size"] * self.data_options["sequence_length"]

    @property
    def precision(self) -> str:
        """The Trainer's."""
        return str(self.trainer_options["precision"])

    def data(self) -> TokenDataModule:
        """A new DataModule."""
        return TokenDataModule(**self.data_options)

    def trainer(self) -> L.Trainer:
        """A new trainer, as `quiet_trainer` makes it."""
        return quiet_trainer(self.trainer_options)

    def record(self) -> dict[str, Any]:
        """The run as plain types, for JSON."""
        config = self.model.decoder_config
        return {
            "decoder": asdict(config),
            "parameters": config.num_parameters,
            "flops_per_token": config.flops_per_token(self.data_options["sequence_length"]),
            "precision": self.precision,
            "compile": self.model.compiled,
            "micro_batch_size": self.data_options["micro_batch_size"],
            "sequence_length": self.data_options["sequence_length"],
            "accumulation": self.accumulation,
            "measured_micro_batches": self.micro_batches,
            "text": self.text,
        }


def benched_run(
    model: LanguageModel, data: TokenDataModule, data_options: dict, trainer_options: dict, folder: Path
) -> BenchedRun:
    """The run of these settings on one device, with random tokens in `folder` where its text is not prepared.

    Args:
        model: The run's LightningModule.
        data: Its DataModule.
        data_options: What `data` was made with.
        trainer_options: What its Trainer would be made with.
        folder: Where to put shards if there is need of any.

    Raises:
        InputError: a global batch that the micro-batch does not divide, or settings that a run would refuse too.
    """
    options = dict(data_options)
    accumulation = BatchPlan(data.global_batch_size, data.micro_batch_size, num_devices(trainer_options)).accumulation
    micro_batches = min(MICRO_BATCHES, accumulation)
    batch = data.micro_batch_size * micro_batches
    options |= {"global_batch_size": batch, "max_tokens": None, "prepare": None}
    text = str(data.selection)
    if data.folder is not None and not (data.folder / FILE_NAME).exists():
        text = f"random tokens, because {data.folder} is not prepared"
        num_tokens = max(RANDOM_TOKENS, 2 * batch * (data.sequence_length + 1))
        write_random_shards(folder / "shards", num_tokens, model.decoder_config.vocab_size)
        options |= dict.fromkeys(("train", "validation", "mixture", "tokenizer", "eos_token", "dtype"))
        options["folder"] = str(folder / "shards")
    # The schedule costs nothing and may need an end, which these steps have not; at a rate of 0 nothing diverges.
    model.schedule_config, model.initial_weights = ScheduleConfig("constant"), None
    model.optimizer_config = replace(model.optimizer_config, learning_rate=0.0)
    return BenchedRun(model, options, trainer_options, accumulation, micro_batches, text)


def num_devices(options: dict[str, Any]) -> int:
    """How many devices a run trains on, as far as its settings tell; `auto` is those of this machine."""
    devices, nodes = options["devices"], options["num_nodes"] or 1
    if isinstance(devices, list):
        return len(devices) * nodes
    text = str(devices)
    if "," in text:
        return len([part for part in text.split(",") if part.strip()]) * nodes
    if text.isdecimal() and int(text) > 0:
        return int(text) * nodes
    on_gpu = options["accelerator"] != "cpu" and torch.cuda.is_available()  # auto, or -1: all there are
    return (torch.cuda.device_count() if on_gpu else 1) * nodes


def quiet_trainer(options: dict[str, Any]) -> L.Trainer:
    """The run's own trainer on one device; it writes nothing, and ends when a callback says so.

    Raises:
        InputError: settings that Lightning refuses, such as a GPU that is not there, or a device of another kind.
    """
    _quieten_lightning()
    try:
        made = L.Trainer(**_quiet_options(options))
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise InputError(f"trainer: {' '.join(str(error).split())}") from error
    device = made.strategy.root_device.type
    if device not in DEVICES:
        raise InputError(f"trainer.accelerator: found {device}; what is measured is {' or '.join(DEVICES)}")
    return made


def _quiet_options(options: dict[str, Any]) -> dict[str, Any]:
    """On one device, without an end, validation, loggers, callbacks and files, and without a cluster's other tasks."""
    plugins = options.get("plugins") or []
    plugins = list(plugins) if isinstance(plugins, list | tuple) else [plugins]
    return {
        **options,
        "devices": 1,
        "num_nodes": 1,
        "strategy": "auto",
        "plugins": [*(p for p in plugins if not isinstance(p, ClusterEnvironment)), LightningEnvironment()],
        "max_steps": -1,
        "max_epochs": -1,
        "max_time": None,
        "min_steps": None,
        "min_epochs": None,
        "limit_val_batches": 0,
        "num_sanity_val_steps": 0,
        "logger": False,
        "callbacks": None,
        "enable_checkpointing": False,
        "profiler": NoProfiler(),  # as `polycom fit`
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": None,
        "fast_dev_run": False,
        "overfit_batches": 0.0,
    }


def _quieten_lightning() -> None:
    """Hides what Lightning says of a trainer that is made for a measurement."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")

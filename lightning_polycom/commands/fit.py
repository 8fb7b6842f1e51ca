"""`polycom fit` and `polycom validate`: LightningCLI with our module, data and callbacks."""

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.profilers import PassThroughProfiler
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from lightning_polycom.callbacks import (
    ActivationProbe,
    Coefficients,
    DownstreamEvaluation,
    Energy,
    ExpertLoad,
    InitialDigest,
    Preemption,
    RunRecord,
    RunSummary,
    SkippedSteps,
    StepCheckpoint,
    StepProgress,
    TensorBoardLayout,
    Throughput,
    TokenStream,
)
from lightning_polycom.callbacks.preemption import EXIT_CODE, stopped_by
from lightning_polycom.callbacks.run_summary import domain_table
from lightning_polycom.checkpoints import locate_checkpoint
from lightning_polycom.checkpoints.complete import newest_complete
from lightning_polycom.checkpoints.load import read_for_resume
from lightning_polycom.checkpoints.locate import run_folder_of
from lightning_polycom.checkpoints.single_file import CheckpointFiles
from lightning_polycom.commands.parsing import PARSER_MODE, empty_sections, known_keys, one_line_error
from lightning_polycom.data.datamodule import TokenDataModule
from lightning_polycom.errors import InputError
from lightning_polycom.training.default_precision import default_precision
from lightning_polycom.training.dry_run import print_plan
from lightning_polycom.training.module import PRECISIONS, LanguageModel
from lightning_polycom.training.no_profiler import NoProfiler
from lightning_polycom.training.run_folder import RunConfig, find_run, read_record, resolve_run_folder
from lightning_polycom.training.scalars import EventFiles, MetricsFile

TRAINER_DEFAULTS = {
    "max_epochs": -1,
    "check_val_every_n_epoch": None,
    "val_check_interval": 1000,
    "log_every_n_steps": 10,
    "num_sanity_val_steps": 0,
    "gradient_clip_val": 1.0,
    "use_distributed_sampler": False,
    "enable_model_summary": False,
}


class Parser(LightningArgumentParser):
    """LightningCLI's parser with errors of one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """One line, exit code 2."""
        one_line_error(self, message)


class PolycomCLI(LightningCLI):
    """Adds the run's folder, checkpoints, downstream evaluation and the dry run to LightningCLI."""

    def __init__(self) -> None:
        # Resolves ${...} after all files and overrides are merged, from the root of the file.
        jsonargparse.set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
        super().__init__(
            LanguageModel,
            TokenDataModule,
            save_config_callback=RunRecord,
            parser_class=Parser,
            parser_kwargs={"parser_mode": PARSER_MODE},
            seed_everything_default=1234,
            trainer_defaults=TRAINER_DEFAULTS,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The Trainer's methods that are commands, and their arguments that are not options."""
        hidden = {"model", "datamodule", "ckpt_path", "weights_only"}
        return {
            "fit": hidden | {"train_dataloaders", "val_dataloaders"},
            "validate": hidden | {"dataloaders", "verbose"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The sections run, checkpoint, evaluation and probe, and --dry_run."""
        parser.add_class_arguments(RunConfig, "run")
        parser.add_lightning_class_args(StepCheckpoint, "checkpoint")
        parser.add_lightning_class_args(DownstreamEvaluation, "evaluation")
        parser.add_lightning_class_args(ActivationProbe, "probe")
        parser.add_argument("--dry_run", action="store_true", help="Print what the run would be, and stop.")
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            help="Resume from a checkpoint, from the newest step of a run's folder, or of the newest run of runs/NAME. "
            "auto: from the newest complete checkpoint of this run, or from the start if there is none.",
        )

    def _parse_ckpt_path(self) -> None:
        """Not LightningCLI's, which overwrites the model's settings with the checkpoint's."""

    def before_instantiate_classes(self) -> None:
        """Finds the checkpoint, and refuses sections that hold no key, which the parser lets pass."""
        settings = self.config[self.subcommand]
        self.refuse_mistakes(self.subcommand, settings, config_files(sys.argv[2:]))
        if settings.ckpt_path == "" or (settings.ckpt_path is None and self.subcommand == "validate"):
            raise InputError("ckpt_path: name a checkpoint, a run's folder or runs/NAME; it is empty")
        self.is_automatic, self.skipped = settings.ckpt_path == "auto", []
        if self.is_automatic:
            self.checkpoint = self._newest_complete(settings.run)
        else:
            self.checkpoint = locate_checkpoint(settings.ckpt_path) if settings.ckpt_path else None
        self.checkpoint_step = read_for_resume(self.checkpoint) if self.checkpoint else 0
        _say(choose_precision(settings.trainer, self.checkpoint))

    def refuse_mistakes(self, subcommand: str, settings: Namespace, files: list[str]) -> None:
        """Refuses what the parser lets pass in settings that were read from `files`."""
        known = known_keys(self._parser(subcommand))
        for path in files:
            for key in empty_sections(path):
                if key not in known:
                    raise InputError(f"{path}: unknown key '{key}'; see polycom {subcommand} --help")
        _refuse_owned(settings.trainer)

    def _newest_complete(self, run: RunConfig) -> Path | None:
        """The checkpoint that `--ckpt_path auto` means; prints which, and what was passed over."""
        folder = find_run(run)
        if folder is None:
            _say(f"ckpt_path: no checkpoint in {Path(run.root) / run.name}; training starts from step 0")
            return None
        found = newest_complete(folder)
        self.skipped = [path.name for path, _ in found.skipped]
        for _, reason in found.skipped:
            _say(f"ckpt_path: skipped, {reason}")
        if found.checkpoint is None:
            _say(f"ckpt_path: no complete checkpoint in {folder}; training starts from step 0")
        else:
            _say(f"ckpt_path: training goes on from {found.checkpoint}")
        return found.checkpoint

    def instantiate_trainer(self, **kwargs: Any):
        """Puts the loggers and callbacks of every run in place, under the run's folder."""
        settings = self.config_init[self.subcommand]
        trainer = settings.trainer
        callbacks = [*trainer.callbacks] if isinstance(trainer.callbacks, list) else []
        if self.subcommand == "fit":
            folder = resolve_run_folder(settings.run, self.checkpoint, self.is_automatic, self.skipped)
            preemption = Preemption()
            callbacks = [preemption, *callbacks]  # before what would take long in the step that stops
            callbacks += [
                TokenStream(),
                InitialDigest(),
                SkippedSteps(),
                Coefficients(),
                ExpertLoad(),
                TensorBoardLayout(),
                Throughput(),
                Energy(),
                *([] if trainer.enable_progress_bar is False else [StepProgress()]),
                RunSummary(),
            ]
            loggers = [EventFiles(folder, self.checkpoint_step), MetricsFile(folder)]
        else:
            folder, callbacks, loggers = run_folder_of(self.checkpoint), [*callbacks, StepProgress()], False
        plugins = [CheckpointFiles(), *(trainer.plugins if isinstance(trainer.plugins, list) else [])]
        chosen = {"default_root_dir": str(folder), "callbacks": callbacks, "plugins": plugins}
        if trainer.logger is None:
            chosen["logger"] = loggers
        try:
            trainer = super().instantiate_trainer(**chosen, **kwargs)
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise InputError(f"trainer: {' '.join(str(error).split())}") from error
        if type(trainer.profiler) is PassThroughProfiler:
            trainer.profiler = NoProfiler()
        if self.subcommand == "fit":
            for timer in [c for c in trainer.callbacks if isinstance(c, Timer)]:
                preemption.take_over(timer)
                trainer.callbacks.remove(timer)
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        if self.checkpoint is not None:
            self.model.initial_weights = None  # a checkpoint to go on from comes first
        if self.config[subcommand].dry_run:
            print_plan(self.model, self.datamodule, self.trainer)
            return
        options = {"datamodule": self.datamodule, "ckpt_path": self.checkpoint, "weights_only": True}
        if subcommand == "fit":
            if self._is_finished():
                return
            self._fit(options)
            if stopped_by(self.trainer) and self.trainer.is_global_zero:  # of other ranks it would look like a crash
                sys.exit(EXIT_CODE)
        else:
            self.trainer.validate(self.model, verbose=False, **options)
            metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
            Console().print(domain_table(metrics))

    def _fit(self, options: dict[str, Any]) -> None:
        try:
            self.trainer.fit(self.model, **options)
        except SystemExit as error:
            if self.trainer.interrupted:  # Lightning has let go of all, and says nothing
                raise KeyboardInterrupt from error
            raise

    def _is_finished(self) -> bool:
        """Whether an automatic resume has nothing left to do; one that was asked for is refused."""
        end = self.datamodule.max_steps or self.trainer.max_steps
        if self.checkpoint is None or not 0 < end <= self.checkpoint_step:
            return False
        if not self.is_automatic:
            raise InputError(
                f"ckpt_path: {self.checkpoint} is at step {self.checkpoint_step} and training ends at {end}; "
                "set trainer.max_steps (or data.max_tokens) above it to go on"
            )
        _say(f"ckpt_path: the run is finished, at step {self.checkpoint_step} of {end}")
        return True


def choose_precision(trainer: Namespace, checkpoint: Path | None = None) -> str:
    """Fills in a precision where the settings name none; returns a line that says which and why, or nothing.

    A run goes on in the precision of its checkpoint, on whatever machine.
    """
    if trainer.precision is not None or trainer.plugins:  # a plugin may be a precision
        return ""
    if checkpoint is None:
        trainer.precision, reason = default_precision(trainer.accelerator)
    else:
        trainer.precision, reason = read_record(run_folder_of(checkpoint))["precision"], "as in the checkpoint's run"
    return f"precision: {trainer.precision}, {reason}; trainer.precision chooses another"


def _refuse_owned(trainer: Namespace) -> None:
    """Refuses settings of the trainer that others determine, instead of replacing them in silence."""
    owners = {
        "default_root_dir": (None, "the run's folder is run.root/run.name/run.version"),
        "accumulate_grad_batches": (1, "it follows from data.global_batch_size and data.micro_batch_size"),
        "check_val_every_n_epoch": (None, "validation goes by trainer.val_check_interval, in optimizer steps"),
    }
    for name, (free, owner) in owners.items():
        if trainer[name] != free:
            raise InputError(f"trainer.{name}: found {trainer[name]}; leave it out, {owner}")
    # Here, because Lightning turns 16-mixed into bf16-mixed on a CPU.
    if str(trainer.precision) not in ("None", "32", "bf16", *PRECISIONS):
        raise InputError(f"trainer.precision: found {trainer.precision}; use {' or '.join(PRECISIONS)}")


def main() -> None:
    """Entry point of both commands; what the user typed stays in sys.argv for the processes Lightning launches."""
    quieten()
    try:
        PolycomCLI()
    except OmegaConfBaseException as error:
        raise InputError(f"config: {str(error).splitlines()[0]}; correct the ${{...}} reference") from error
    except MisconfigurationException as error:
        raise InputError(f"trainer: {' '.join(str(error).split())}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"config: {error.reason} at byte {error.start}; a config file is UTF-8 text") from error


def _say(line: str) -> None:
    """Prints on one process of a node; the others find the same."""
    if line and os.environ.get("LOCAL_RANK", "0") == "0":
        print(line)


def config_files(arguments: list[str]) -> list[str]:
    """The files given by --config or -c; the parsed settings do not keep them."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    return [path for path in parser.parse_known_args(arguments)[0].config if Path(path).is_file()]


def quieten() -> None:
    """Hides messages that no user of this command can act on."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
    warnings.filterwarnings("ignore", message=".*returned a view tensor. An in-place op.*")  # nothing is added in place
    warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists and is not empty.*")

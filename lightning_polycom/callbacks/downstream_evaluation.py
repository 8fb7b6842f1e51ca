"""lm-eval tasks while a run trains, on the live weights."""

from pathlib import Path
from typing import TYPE_CHECKING

import lightning as L

from lightning_polycom.callbacks.preemption import stopped_by
from lightning_polycom.callbacks.progress import StepProgress
from lightning_polycom.callbacks.step_checkpoint import StepCheckpoint
from lightning_polycom.errors import InputError
from lightning_polycom.training.scalars import log_scalars

if TYPE_CHECKING:
    from lightning_polycom.evaluation import LoadedTasks


class DownstreamEvaluation(L.Callback):
    """Runs lm-eval tasks every `every_n_steps` optimizer steps and at the end of training.

    Tasks are resolved and their data loaded before training starts. Results go to evals/step-<n>.json in lm-eval's
    own form, and as `eval/<task>/<metric>` to the loggers. The decoder is evaluated in place: no second copy.

    Args:
        tasks: Names of lm-eval tasks or groups; none switches evaluation off.
        include_path: Folders of task YAML files beside lm-eval's own.
        every_n_steps: Interval in optimizer steps; default the checkpoints' interval.
        limit: Only the first so many documents of each task; default all.
        num_fewshot: Examples before each question; default the task's own.
        batch_tokens: Tokens per forward pass.
    """

    def __init__(
        self,
        tasks: list[str] | None = None,
        include_path: list[str] | None = None,
        every_n_steps: int | None = None,
        limit: int | None = None,
        num_fewshot: int | None = None,
        batch_tokens: int = 8192,
    ):
        least = {"every_n_steps": (every_n_steps, 1), "limit": (limit, 1), "num_fewshot": (num_fewshot, 0)}
        for name, (value, minimum) in {**least, "batch_tokens": (batch_tokens, 1)}.items():
            if value is not None and value < minimum:
                raise InputError(f"evaluation.{name}: found {value}; it must be at least {minimum}")
        self.tasks, self.include_path = tasks or [], include_path or []
        self.every_n_steps, self.limit, self.num_fewshot = every_n_steps, limit, num_fewshot
        self.batch_tokens = batch_tokens
        self._loaded: LoadedTasks | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Loads the tasks: an unknown name or unreachable data is seen now, not at the first checkpoint."""
        if not self.tasks or stage != "fit":
            return
        from lightning_polycom.evaluation import load_tasks

        data_folder = trainer.datamodule.folder
        self._loaded = load_tasks(self.tasks, self.include_path, data_folder, self.num_fewshot)
        for name, reason in self._loaded.failed.items():
            self._print(trainer, f"evaluation: task {name} is left out: {reason}")
        self._checkpoints = [c for c in trainer.callbacks if isinstance(c, StepCheckpoint)]
        self._interval = self.every_n_steps or self._checkpoints[0].every_n_steps

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The step that a run starts or resumes from is not evaluated."""
        self._last_step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_) -> None:
        """Evaluates after an optimizer step whose number is a multiple of the interval."""
        if self._loaded and trainer.global_step % self._interval == 0:
            for checkpoint in self._checkpoints:
                checkpoint.save_if_due(trainer)  # before anything can go wrong in a task
            self._evaluate(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluates the end of training, whatever its step."""
        if self._loaded:
            for checkpoint in self._checkpoints:
                checkpoint.save(trainer)
            self._evaluate(trainer, pl_module)

    def _evaluate(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step == self._last_step or stopped_by(trainer):
            return
        self._last_step = trainer.global_step
        from lightning_polycom.evaluation import DecoderLM, run_evaluation, scalars, write_results

        tokenizer = trainer.datamodule.training_data.load_tokenizer()
        precision = evaluation_precision(str(trainer.precision))
        bar = trainer.progress_bar_callback
        track = bar.track if isinstance(bar, StepProgress) else iter
        lm = DecoderLM(pl_module.decoder, tokenizer, self.batch_tokens, precision, track)
        results = run_evaluation(lm, self._loaded, limit=self.limit)
        if trainer.is_global_zero:
            write_results(Path(trainer.default_root_dir) / "evals" / f"step-{trainer.global_step:08d}.json", results)
        log_scalars(trainer, scalars(results))

    @staticmethod
    def _print(trainer: L.Trainer, line: str) -> None:
        if trainer.is_global_zero:
            print(line)


def evaluation_precision(trainer_precision: str) -> str:
    """The adapter's precision for a Trainer's: bf16 for any bf16 training, else fp32."""
    return "bf16" if "bf16" in trainer_precision else "fp32"

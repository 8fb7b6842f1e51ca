"""lm-eval tasks while a run trains, on the live weights."""

from pathlib import Path
from typing import TYPE_CHECKING

import lightning as L

from lightning_polycom.callbacks.energy import pause_energy
from lightning_polycom.callbacks.preemption import stopped_by
from lightning_polycom.callbacks.progress import StepProgress
from lightning_polycom.callbacks.step_checkpoint import StepCheckpoint
from lightning_polycom.errors import InputError
from lightning_polycom.training.scalars import log_scalars

if TYPE_CHECKING:
    from lightning_polycom.evaluation import LoadedTasks


class DownstreamEvaluation(L.Callback):
    """Runs lm-eval tasks at an interval of optimizer steps or tokens and at the end of training.

    Tasks are resolved and their data loaded before training starts. Results go to evals/step-<n>.json in lm-eval's
    own form, and as `eval/<task>/<metric>` to the loggers. The decoder is evaluated in place: no second copy.

    Args:
        tasks: Names of lm-eval tasks or groups; none switches evaluation off.
        include_path: Folders of task YAML files beside lm-eval's own.
        metrics: The metric of each task or group that enters eval/average, by name, which is then the mean over these;
            default acc_norm of every multiple-choice task that reports it, else acc.
        every_n_steps: Interval in optimizer steps; default the checkpoints' interval.
        every_n_tokens: Interval in training tokens instead, rounded up to whole steps.
        limit: Only the first so many documents of each task; default all.
        num_fewshot: Examples before each question; default the task's own.
        batch_tokens: Tokens per forward pass.
        seed: Draws the few-shot examples.
        log_samples: Also write every question with its log-likelihoods, evals/step-<n>/samples_<task>.jsonl.

    Raises:
        InputError: a number out of range, or both intervals.
    """

    def __init__(
        self,
        tasks: list[str] | None = None,
        include_path: list[str] | None = None,
        metrics: dict[str, str] | None = None,
        every_n_steps: int | None = None,
        every_n_tokens: int | None = None,
        limit: int | None = None,
        num_fewshot: int | None = None,
        batch_tokens: int = 8192,
        seed: int = 1234,
        log_samples: bool = False,
    ):
        intervals = {"every_n_steps": every_n_steps, "every_n_tokens": every_n_tokens}
        least_1 = {**intervals, "limit": limit, "batch_tokens": batch_tokens}
        for minimum, settings in ((1, least_1), (0, {"num_fewshot": num_fewshot, "seed": seed})):
            for name, value in settings.items():
                if value is not None and value < minimum:
                    raise InputError(f"evaluation.{name}: found {value}; it must be at least {minimum}")
        if None not in intervals.values():
            raise InputError("evaluation.every_n_tokens: every_n_steps is set too; leave one of them out")
        self.tasks, self.include_path = tasks or [], include_path or []
        self.every_n_steps, self.limit, self.num_fewshot = every_n_steps, limit, num_fewshot
        self.metrics, self.every_n_tokens = metrics or {}, every_n_tokens
        self.batch_tokens, self.seed, self.log_samples = batch_tokens, seed, log_samples
        self._loaded: LoadedTasks | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Loads the tasks: an unknown name or unreachable data is seen now, not at the first checkpoint."""
        if not self.tasks or stage != "fit":
            return
        from lightning_polycom.evaluation import load_tasks, require_metrics

        data_folder = trainer.datamodule.folder
        self._loaded = load_tasks(self.tasks, self.include_path, data_folder, self.num_fewshot)
        require_metrics(self._loaded, self.metrics)
        for name, reason in self._loaded.failed.items():
            self._print(trainer, f"evaluation: task {name} is left out: {reason}")
        self._checkpoints = [c for c in trainer.callbacks if isinstance(c, StepCheckpoint)]
        self._interval = self.every_n_steps or self._checkpoints[0].every_n_steps
        if self.every_n_tokens is not None:
            self._interval = -(-self.every_n_tokens // trainer.datamodule.tokens_per_step)

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
        pause_energy(trainer)
        from lightning_polycom.evaluation import DecoderLM, run_evaluation, scalars, write_results
        from lightning_polycom.evaluation.live_decoder import evaluation_precision

        tokenizer = trainer.datamodule.training_data.load_tokenizer()
        precision = evaluation_precision(str(trainer.precision))
        bar = trainer.progress_bar_callback
        track = bar.track if isinstance(bar, StepProgress) else iter
        lm = DecoderLM(
            pl_module.decoder, tokenizer, self.batch_tokens, precision, track, bos_token_id=tokenizer.bos_token_id
        )
        results = run_evaluation(lm, self._loaded, self.limit, self.seed, self.metrics, self.log_samples)
        if trainer.is_global_zero:
            write_results(Path(trainer.default_root_dir) / "evals" / f"step-{trainer.global_step:08d}.json", results)
        log_scalars(trainer, scalars(results))

    @staticmethod
    def _print(trainer: L.Trainer, line: str) -> None:
        if trainer.is_global_zero:
            print(line)

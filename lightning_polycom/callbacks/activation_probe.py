"""Effective ranks, layer similarity and activation statistics while a run trains."""

from pathlib import Path

import lightning as L

from lightning_polycom.callbacks.energy import pause_energy
from lightning_polycom.callbacks.preemption import stopped_by
from lightning_polycom.callbacks.progress import StepProgress
from lightning_polycom.callbacks.step_checkpoint import StepCheckpoint
from lightning_polycom.errors import InputError
from lightning_polycom.training.scalars import EventFiles, log_scalars


class ActivationProbe(L.Callback):
    """Analyses the live decoder at an interval of optimizer steps and at the end of training; off by default.

    Between two steps, eagerly and without gradients: training is the same with and without. Results go to
    probes/analysis-step-<n>.json, as `analysis/<layer>/...` to the loggers, and as pictures to TensorBoard.

    Args:
        every_n_steps: Interval in optimizer steps; null switches the probe off.
        num_tokens: Validation tokens to read, the same ones each time, in equal parts from all domains and rounded up
            to whole sequences.

    Raises:
        InputError: a number below 1, or no validation text to read.
    """

    def __init__(self, every_n_steps: int | None = None, num_tokens: int = 16384):
        for name, value in (("every_n_steps", every_n_steps), ("num_tokens", num_tokens)):
            if value is not None and value < 1:
                raise InputError(f"probe.{name}: found {value}; it must be at least 1")
        self.every_n_steps, self.num_tokens = every_n_steps, num_tokens

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Chooses the tokens: that there are none is seen now, not at the first interval."""
        if self.every_n_steps is None or stage != "fit":
            return
        from lightning_polycom.analysis.probe_windows import ProbeWindows

        data = trainer.datamodule
        self._windows = ProbeWindows(
            data.training_data.validation, data.sequence_length, self.num_tokens, data.separate_documents
        )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The step that a run starts or resumes from is not analysed."""
        self._last_step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_) -> None:
        """Analyses after an optimizer step whose number is a multiple of the interval."""
        if self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0:
            for checkpoint in trainer.checkpoint_callbacks:
                if isinstance(checkpoint, StepCheckpoint):
                    checkpoint.save_if_due(trainer)  # before anything can go wrong in an analysis
            self._probe(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Analyses the end of training, whatever its step."""
        if self.every_n_steps is not None:
            self._probe(trainer, pl_module)

    def _probe(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        step = trainer.global_step
        if step == self._last_step or stopped_by(trainer):
            return
        self._last_step = step
        pause_energy(trainer)
        from lightning_polycom.analysis.probe import analyze_text, analyze_weights
        from lightning_polycom.analysis.probe_figures import draw_analysis
        from lightning_polycom.analysis.probe_files import analysis_scalars, json_name, write_analysis
        from lightning_polycom.evaluation.live_decoder import evaluation_precision

        bar = trainer.progress_bar_callback
        track = bar.track if isinstance(bar, StepProgress) else iter
        precision = evaluation_precision(str(trainer.precision))
        found = analyze_weights(pl_module.decoder, track)
        found |= analyze_text(pl_module.decoder, self._windows, precision, track)
        log_scalars(trainer, analysis_scalars(found))
        if not trainer.is_global_zero:
            return
        write_analysis(Path(trainer.default_root_dir) / "probes" / json_name(step), step, found)
        for logger in trainer.loggers:
            if isinstance(logger, EventFiles):
                for name, figure in draw_analysis(found, f"step {step:,}").items():
                    logger.write_figure(f"analysis/{name}", figure, step)

"""What the terminal shows while a run trains."""

from collections.abc import Iterator, Sequence

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class StepProgress(ProgressBar):
    """A bar over optimizer steps, and one over batches while validating or evaluating.

    Where the output is no terminal (a file, a pipe, a job's log) it prints a line about every twentieth of the run
    instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.console = Console()
        self._progress: Progress | None = None
        self._validation_task = None

    def disable(self) -> None:
        """Shows nothing, on every rank but the first."""
        self.console = Console(quiet=True)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Opens the bar."""
        self._printed_step = trainer.global_step
        if not self.console.is_terminal:
            return
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
        )
        self._progress = Progress(*columns, console=self.console)
        self._task = self._progress.add_task(
            "training", total=trainer.max_steps, completed=trainer.global_step, status=""
        )
        self._progress.start()

    def on_train_batch_end(self, trainer: L.Trainer, *_) -> None:
        """Moves the bar, or prints a line."""
        if self._progress is not None:
            self._progress.update(self._task, completed=trainer.global_step, status=self._status(trainer))
        elif trainer.global_step - self._printed_step >= max(1, trainer.max_steps // 20):
            self._printed_step = trainer.global_step
            self.console.print(f"step {trainer.global_step}/{trainer.max_steps}  {self._status(trainer)}")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Adds a bar for the validation batches of all domains."""
        if self._progress is not None:
            total = sum(trainer.num_val_batches)
            self._validation_task = self._progress.add_task("validation", total=total, status="")

    def on_validation_batch_end(self, *_, **__) -> None:
        """Moves the validation bar."""
        if self._validation_task is not None:
            self._progress.advance(self._validation_task)

    def on_validation_end(self, *_) -> None:
        """Removes the validation bar."""
        if self._validation_task is not None:
            self._progress.remove_task(self._validation_task)
            self._validation_task = None

    def track(self, steps: Sequence[int]) -> Iterator[int]:
        """Passes the steps of an evaluation on, with a bar that is there for as long."""
        if self._progress is None:
            yield from steps
            return
        task = self._progress.add_task("evaluation", total=len(steps), status="")
        for step in steps:
            yield step
            self._progress.advance(task)
        self._progress.remove_task(task)

    def on_fit_end(self, *_) -> None:
        """Closes the bar."""
        self._close()

    def on_exception(self, *_) -> None:
        """Gives the terminal back before the error is shown."""
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    @staticmethod
    def _status(trainer: L.Trainer) -> str:
        metrics, parts = trainer.callback_metrics, []
        if "train/loss" in metrics:
            parts.append(f"loss {metrics['train/loss']:.3f}")
        if "val/loss" in metrics:
            parts.append(f"val {metrics['val/loss']:.3f}")
        if "throughput/tokens_per_second" in metrics:
            parts.append(f"{metrics['throughput/tokens_per_second']:,.0f} tokens/s")
        return "  ".join(parts)

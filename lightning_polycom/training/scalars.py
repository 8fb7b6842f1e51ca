"""The one way in which numbers leave a run: every logger, at an explicit optimizer step."""

import json
import math
import time
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from lightning_polycom.atomic import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def log_scalars(trainer: L.Trainer, scalars: dict[str, float], step: int | None = None) -> None:
    """Writes `scalars` to all loggers at optimizer step `step` (default: steps completed) and to callback_metrics.

    Values are Python floats, already reduced over ranks. Lightning's own `log` counts the step from 0 while training
    and from 1 after it; here every tag has the number of completed steps.
    """
    step = trainer.global_step if step is None else step
    for logger in trainer.loggers:
        logger.log_metrics(scalars, step=step)
    trainer.callback_metrics.update({key: torch.tensor(value) for key, value in scalars.items()})


class EventFiles(TensorBoardLogger):
    """TensorBoard event files in <folder>/tb, created with the first value.

    Lightning's own logger creates its folder while the run is set up, so that a run refused for bad input would leave
    an empty one behind.
    """

    def __init__(self, folder: str | Path, resumed_step: int = 0):
        """`resumed_step`: values after this step, which a resumed run writes again, are hidden."""
        is_restart = Path(folder, "tb").is_dir()  # with step 0, of a run that was stopped before its first checkpoint
        purge = {"purge_step": resumed_step + 1 if resumed_step else 0} if resumed_step or is_restart else {}
        # Absolute: TensorBoard writes in a thread, wherever the process is by then.
        super().__init__(Path(folder).absolute(), name="tb", version="", default_hp_metric=False, **purge)
        self._opened, self._hyperparameters = False, None

    @property
    def experiment(self) -> Any:
        """The SummaryWriter; before training only a stand-in without methods."""
        return super().experiment if self._opened else SimpleNamespace()

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Keeps the hyperparameters until the first value."""
        self._hyperparameters = params

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Writes values."""
        self._open()
        super().log_metrics(metrics, step)

    @rank_zero_only
    def write_layout(self, layout: dict[str, dict[str, list]]) -> None:
        """Writes the charts of the Custom Scalars page."""
        self._open()
        self.experiment.add_custom_scalars(layout)

    @rank_zero_only
    def write_figure(self, tag: str, figure: "Figure", step: int) -> None:
        """Writes a picture."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        self._open()
        self.experiment.add_image(tag, np.asarray(canvas.buffer_rgba())[..., :3], step, dataformats="HWC")

    def save(self) -> None:
        """Flushes what was written."""
        if self._opened:
            super().save()

    @rank_zero_only
    def _open(self) -> None:
        """Creates the files, with the hyperparameters in them."""
        if not self._opened:
            # TensorBoard reports a folder that cannot be made as a value that cannot be logged.
            Path(self.log_dir).mkdir(parents=True, exist_ok=True)
            self._opened = True
            super().log_hyperparams(self._hyperparameters or {})


class MetricsFile(Logger):
    """Appends every logged value to metrics.jsonl: one object a line with `step`, `time` (seconds) and the values.

    A value that is not finite is written as null, so that every line is JSON.
    """

    def __init__(self, folder: str | Path):
        super().__init__()
        self.path = Path(folder).absolute() / "metrics.jsonl"
        self._has_folder = False

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "metrics"

    @property
    def version(self) -> str:
        """Not versioned: the run's folder is."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Appends one line."""
        values = {key: value if math.isfinite(value) else None for key, value in metrics.items() if key != "epoch"}
        if not values:
            return
        if not self._has_folder:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._has_folder = True
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")

    @rank_zero_only
    def discard_after(self, step: int) -> None:
        """Drops the lines after optimizer step `step`, which a resumed run will write again."""
        if self.path.exists():
            kept = [line for line in self._whole_lines() if json.loads(line)["step"] <= step]
            write_text(self.path, "".join(line + "\n" for line in kept))

    def _whole_lines(self) -> list[str]:
        """The lines; without the last one if a kill has torn it."""
        text = self.path.read_text(encoding="utf-8")
        return text[: text.rfind("\n") + 1].splitlines()

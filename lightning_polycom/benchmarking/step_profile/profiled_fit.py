"""`polycom fit` under torch's profiler for some steps."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
import yaml
from torch.profiler import ProfilerActivity, profile

from lightning_polycom.benchmarking.step_profile.scopes import ScopeProfiler, name_modules, named_functions
from lightning_polycom.benchmarking.training_step.contenders import Case
from lightning_polycom.benchmarking.training_step.fit_run import settings

WARM_UP = 10  # optimizer steps, of which the last is logged


class Profiled(NamedTuple):
    """The profiler's events of some optimizer steps, the seconds that these took, and the main thread's number."""

    events: list[Any]
    seconds: float
    steps: int
    thread: int


class Window(L.Callback):
    """Profiles the `steps` optimizer steps after the warm-up, and then ends the run."""

    steps: int  # both set before the run that makes one of this class, by its import path
    done: Callable[[Profiled], None]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Names what is inside the decoder, unless it is compiled, which scopes would cut."""
        if not pl_module.compiled:
            name_modules(pl_module.decoder)
        on_gpu = trainer.strategy.root_device.type == "cuda"
        self._synchronize = torch.cuda.synchronize if on_gpu else lambda: None
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        self._profile = profile(activities=activities, acc_events=True)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Starts and stops at the same place of a step."""
        if trainer.global_step == WARM_UP:
            self._synchronize()
            self._profile.start()
            self._start = time.perf_counter()
        elif trainer.global_step == WARM_UP + self.steps:
            self._synchronize()
            seconds = time.perf_counter() - self._start
            with torch.profiler.record_function("main thread"):
                pass
            self._profile.stop()
            events = self._profile.events()
            thread = next(event.thread for event in reversed(events) if event.name == "main thread")
            type(self).done(Profiled(events, seconds, self.steps, thread))
            trainer.should_stop = True
            trainer.limit_val_batches = 0


def profiled_fit(case: Case, data: Path, runs: Path, steps: int) -> Profiled:
    """Runs `fit` on the prepared folder `data`; the run's folder comes under `runs`. Must be in the main thread."""
    from lightning_polycom.cli import main

    assert threading.current_thread() is threading.main_thread()
    found: list[Profiled] = []
    Window.steps, Window.done = steps, staticmethod(found.append)
    values = settings(case, data, runs)
    values["trainer"] |= {
        "callbacks": [{"class_path": f"{Window.__module__}.Window"}],
        "profiler": {"class_path": f"{ScopeProfiler.__module__}.ScopeProfiler"},
    }
    config = runs / "profiled.yaml"
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    arguments, sys.argv = sys.argv, ["polycom", "fit", "--config", str(config)]
    try:
        with named_functions(case.compiled):
            main()
    finally:
        sys.argv = arguments
    return found[0]

"""Downstream evaluation: lm-eval-harness over a live decoder.

The names below are imported when first used, because lm-eval takes seconds to import and `polycom --help` must not
pay for it. Importing this package makes checkpoints known to lm-eval as the model `polycom`, by name only.
"""

import importlib
from typing import Any

from lm_eval.api.registry import model_registry  # a few hundredths of a second, without torch

_HOME = {
    "CheckpointModel": "checkpoint_model",
    "DecoderLM": "adapter",
    "LoadedTasks": "tasks",
    "chance_level": "chance",
    "load_tasks": "tasks",
    "require_metrics": "average",
    "run_evaluation": "harness",
    "scalars": "scores",
    "write_results": "scores",
}
__all__ = list(_HOME)

if "polycom" not in model_registry:
    model_registry.register("polycom", target=f"{__name__}.checkpoint_model:CheckpointModel")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)

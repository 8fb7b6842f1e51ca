"""Downstream evaluation: lm-eval-harness over a live decoder.

The names below are imported when first used, because lm-eval takes seconds to import and `polycom --help` must not
pay for it.
"""

import importlib
from typing import Any

_HOME = {
    "DecoderLM": "adapter",
    "LoadedTasks": "tasks",
    "chance_level": "chance",
    "load_tasks": "tasks",
    "run_evaluation": "harness",
    "scalars": "scores",
    "write_results": "scores",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)

"""The command line of a comparison's run, which anyone may type again, and what it says when it fails."""

import json
import sys
from pathlib import Path

import yaml

from lightning_polycom.atomic import write_text
from lightning_polycom.comparison.config import LEARNING_RATE, SEEDS, ComparisonConfig, RunKey


def fit_command(config: ComparisonConfig, key: RunKey, steps: int, folder: Path) -> list[str]:
    """`polycom fit` of one run; writes the arm's overrides beside its runs, in <folder>/<arm>/overrides.yaml.

    It goes on from the run's newest checkpoint, and does nothing if the run is finished.
    """
    overrides = folder / key.arm / "overrides.yaml"
    write_text(overrides, yaml.safe_dump(config.overlay(key.arm), sort_keys=False))
    command = [sys.executable, "-m", "lightning_polycom", "fit"]
    for path in (*config.base_files, overrides):
        command += ["--config", str(path)]
    options = dict.fromkeys(SEEDS, key.seed) | {"data.max_tokens": None, "trainer.max_steps": steps}
    if key.learning_rate is not None:
        options[LEARNING_RATE] = key.learning_rate
    options |= {"run.root": str(folder), "run.name": key.arm, "run.version": key.version, "ckpt_path": "auto"}
    for name, value in options.items():
        command += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    return command


def failure_line(output: str, code: int) -> str:
    """The one line that says why a run has failed: the command's own, or the last one of what it printed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    mistake = next((line for line in reversed(lines) if line.startswith("polycom: error: ")), None)
    said = mistake.removeprefix("polycom: error: ") if mistake else (lines[-1] if lines else "nothing was printed")
    return said if mistake else f"exit code {code}: {said}"

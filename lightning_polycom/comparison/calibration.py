"""Seconds per optimizer step of each arm, measured before runs of equal time are planned."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from lightning_polycom.comparison.command import failure_line, fit_command
from lightning_polycom.comparison.config import ComparisonConfig, RunKey
from lightning_polycom.comparison.plan import ArmPlan
from lightning_polycom.comparison.step_time import median_speed
from lightning_polycom.errors import InputError

ROUNDS = 2
PLAIN_STEPS = (
    *("--trainer.log_every_n_steps", "1", "--model.schedule.name", "constant"),
    *("--model.schedule.warmup_steps", "0", "--model.schedule.warmup_tokens", "null"),
)
Runner = Callable[[Sequence[str], Path], int]
"""Runs a command with its output in a file, and returns its exit code."""


def calibrate(config: ComparisonConfig, arms: list[ArmPlan], folder: Path, run: Runner) -> dict[str, float]:
    """Times `calibration_steps` steps of each arm, the arms in turns, ROUNDS times; the faster round counts.

    A busy neighbour can only make a round slower. The steps are those of ordinary runs on the real data, at the first
    seed, without validation and evaluation, and are deleted.

    Returns:
        Seconds per optimizer step by arm.

    Raises:
        InputError: an arm that cannot be run; nothing is kept.
    """
    place = folder / ".calibration"
    shutil.rmtree(place, ignore_errors=True)
    times: dict[str, list[float]] = {arm.name: [] for arm in arms}
    plain = replace(config, overrides={**config.overrides, "evaluation.tasks": [], "trainer.limit_val_batches": 0})
    try:
        for number in range(ROUNDS):
            for arm in arms:
                key = RunKey(arm.name, config.seeds[0], None)
                command = [*fit_command(plain, key, config.calibration_steps, place / str(number)), *PLAIN_STEPS]
                log = place / f"{arm.name}-{number}.log"
                code = run(command, log)
                if code != 0:
                    output = log.read_text(encoding="utf-8", errors="replace")
                    raise InputError(f"arms.{arm.name}: cannot be timed: {failure_line(output, code)}")
                times[arm.name].append(arm.tokens_per_step / median_speed(place / str(number) / arm.name / key.version))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return {name: min(found) for name, found in times.items()}

"""Learning-rate schedules as pure functions of the optimizer step."""

import math
from dataclasses import dataclass
from typing import Literal

from lightning_polycom.errors import InputError


@dataclass(frozen=True)
class ScheduleConfig:
    """Linear warm-up, then a plateau or a decay to `final_fraction` of the peak. Lengths in steps or in tokens.

    Args:
        name: `cosine` decays from the end of warm-up on; `wsd` (warm-up, stable, decay) stays at the peak and decays
            linearly over the last steps; `constant` stays at the peak.
        warmup_steps: Steps of linear warm-up.
        warmup_tokens: The same in tokens; give one of the two.
        decay_steps: Length of the decay in steps. Default: for cosine all after warm-up, for wsd a fifth of training.
            A cosine may be longer than the run, which then ends before the bottom.
        decay_tokens: The same in tokens; give one of the two.
        final_fraction: Learning rate at the end, as a fraction of the peak.

    Raises:
        InputError: a negative length, or a fraction outside 0 to 1.
    """

    name: Literal["cosine", "wsd", "constant"] = "cosine"
    warmup_steps: int | None = None
    warmup_tokens: int | None = None
    decay_steps: int | None = None
    decay_tokens: int | None = None
    final_fraction: float = 0.1

    def __post_init__(self) -> None:
        for name in ("warmup_steps", "warmup_tokens", "decay_steps", "decay_tokens"):
            if (getattr(self, name) or 0) < 0:
                raise InputError(f"schedule.{name}: found {getattr(self, name)}; it must be 0 or more")
        if not 0 <= self.final_fraction <= 1:
            raise InputError(f"schedule.final_fraction: found {self.final_fraction}; it must be from 0 to 1")


@dataclass(frozen=True)
class Schedule:
    """A schedule with every length in optimizer steps; callable, picklable, without state."""

    name: str
    warmup_steps: int
    decay_steps: int
    total_steps: int
    final_fraction: float

    def __call__(self, step: int) -> float:
        """The factor on the peak learning rate at optimizer step `step`, the first step being 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.name == "constant":
            return 1.0
        start = self.warmup_steps if self.name == "cosine" else self.total_steps - self.decay_steps
        progress = min(1.0, max(0.0, (step - start) / max(1, self.decay_steps)))
        falling = 0.5 * (1 + math.cos(math.pi * progress)) if self.name == "cosine" else 1 - progress
        return self.final_fraction + (1 - self.final_fraction) * falling


def build_schedule(config: ScheduleConfig, total_steps: int, tokens_per_step: int) -> Schedule:
    """Resolves tokens to steps, rounding up.

    Raises:
        InputError: both units given for one length, warm-up and decay longer than the run, or no known end.
    """
    warmup = _steps("warmup", config.warmup_steps, config.warmup_tokens, tokens_per_step, 0)
    usual = total_steps // 5 if config.name == "wsd" else total_steps - warmup
    decay = _steps("decay", config.decay_steps, config.decay_tokens, tokens_per_step, usual)
    if config.name != "constant" and total_steps < 1:
        raise InputError(
            f"schedule.name: '{config.name}' must know where training ends; set trainer.max_steps or data.max_tokens"
        )
    needed = warmup + (decay if config.name == "wsd" else 0)
    if config.name != "constant" and needed > total_steps:
        raise InputError(f"schedule: warm-up and decay take {needed} steps, the run has {total_steps}; shorten them")
    return Schedule(config.name, warmup, decay, total_steps, config.final_fraction)


def _steps(name: str, steps: int | None, tokens: int | None, tokens_per_step: int, default: int) -> int:
    if steps is not None and tokens is not None:
        raise InputError(f"schedule.{name}_steps: {name}_tokens is given too; give one of the two")
    if tokens is not None:
        return -(-tokens // tokens_per_step)
    return default if steps is None else steps

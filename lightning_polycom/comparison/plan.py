"""The plan of a comparison: what each arm is and how long it trains, and whether the arms are equal enough."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from lightning_polycom.comparison.config import ComparisonConfig, flat
from lightning_polycom.errors import InputError
from lightning_polycom.model import DecoderConfig
from lightning_polycom.training.schedules import ScheduleConfig, build_schedule

FEED_FORWARD = ("activation", "intermediate_size", "gated_size_multiple", "recompute_activation", "mixture_of_experts")
"""Keys of a decoder that change nothing outside the feed-forwards."""
WITHOUT_EFFECT = ("num_workers", "micro_batch_size", "validation_batch_size", "prepare", "max_tokens", "compile")
"""Keys of the data and the model that do not change what a run computes, or that the plan replaces."""


@dataclass(frozen=True)
class ArmPlan:
    """One arm.

    Attributes:
        name: Its name.
        decoder: Its decoder.
        schedule: Its learning rate over the run.
        sequence_length: Tokens of a sample.
        tokens_per_step: Tokens of an optimizer step.
        steps: Its optimizer steps; 0 where they follow from times that are not measured yet.
        settings: All settings of its runs, resolved, with the first of the seeds.
    """

    name: str
    decoder: DecoderConfig
    schedule: ScheduleConfig
    sequence_length: int
    tokens_per_step: int
    steps: int
    settings: dict[str, Any]

    @property
    def flops_per_token(self) -> int:
        """Training FLOPs of one token."""
        return self.decoder.flops_per_token(self.sequence_length)

    @property
    def tokens(self) -> int:
        """Tokens of a run."""
        return self.steps * self.tokens_per_step

    @property
    def flops(self) -> int:
        """Training FLOPs of a run."""
        return self.tokens * self.flops_per_token

    @property
    def root(self) -> str:
        """The folder in which the comparison's folder lies."""
        return self.settings["run"]["root"]

    @property
    def digest(self) -> str:
        """A hash of all settings that change what a run computes, but for its seed and learning rate."""
        kept = {name: dict(self.settings[name]) for name in ("model", "data")}
        for section in kept.values():
            for key in (*WITHOUT_EFFECT, "seed"):
                section.pop(key, None)
        trainer = {key: self.settings["trainer"].get(key) for key in ("precision", "gradient_clip_val")}
        text = json.dumps([kept, trainer, self.steps], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def starts_like(self, other: "ArmPlan") -> bool:
        """Whether all parameters outside the feed-forwards are to start with the same values."""
        ours, theirs = (replace(plan.decoder, **_shared(self.decoder)) for plan in (self, other))
        return (
            ours == theirs and self.settings["model"]["initial_weights"] == other.settings["model"]["initial_weights"]
        )

    def as_dict(self) -> dict[str, Any]:
        """What comparison.json keeps of the arm."""
        return {
            "activation": self.decoder.activation.name,
            "feed_forward_size": self.decoder.feed_forward_size,
            "num_parameters": self.decoder.num_parameters,
            "num_active_parameters": self.decoder.num_active_parameters,
            "flops_per_token": self.flops_per_token,
            "tokens_per_step": self.tokens_per_step,
            "steps": self.steps,
            "settings_digest": self.digest,
        }


def plan_lengths(
    config: ComparisonConfig, arms: list[ArmPlan], seconds_per_step: dict[str, float] | None
) -> list[ArmPlan]:
    """The arms with as many steps as what is held equal gives them.

    Args:
        config: The comparison.
        arms: The arms, each with the base's number of steps.
        seconds_per_step: Measured times by arm, which `time` needs; without them its arms have no length.

    Raises:
        InputError: no end of training, or a schedule that cannot end with the arm.
    """
    baseline = arm_called(arms, config.baseline)
    if baseline.steps < 1:
        raise InputError("base: training has no end; set trainer.max_steps or data.max_tokens in it")
    planned = [replace(arm, steps=_steps(config, arm, baseline, seconds_per_step)) for arm in arms]
    for arm in planned:
        if arm.steps > 0:
            _require_end(arm, baseline)
    return planned


def require_equal(
    config: ComparisonConfig, arms: list[ArmPlan], seconds_per_step: dict[str, float] | None = None
) -> None:
    """Refuses arms that differ from the baseline by more than the tolerance in what is to be equal.

    Raises:
        InputError: names the arm, both numbers and the key to change.
    """
    baseline = arm_called(arms, config.baseline)
    for arm in arms:
        if config.equal == "parameters":
            _require_parameters(config, arm, baseline)
        elif config.equal == "flops":
            _require_close(config, arm, arm.flops, baseline.flops, "training FLOPs")
        elif seconds_per_step is not None:
            ours, theirs = (one.steps * seconds_per_step[one.name] for one in (arm, baseline))
            _require_close(config, arm, ours, theirs, "seconds of training")


def arm_called(arms: list[ArmPlan], name: str) -> ArmPlan:
    """The arm of that name, which is there."""
    return next(arm for arm in arms if arm.name == name)


def own_schedule(config: ComparisonConfig, arm: str) -> list[str]:
    """Keys of the schedule that an arm has of its own."""
    return [key for key in flat(config.arms[arm] or {}) if key.startswith("model.schedule.")]


def _shared(decoder: DecoderConfig) -> dict[str, Any]:
    return {name: getattr(decoder, name) for name in FEED_FORWARD}


def _steps(config: ComparisonConfig, arm: ArmPlan, baseline: ArmPlan, seconds_per_step: dict[str, float] | None) -> int:
    if config.equal == "parameters" or arm.name == baseline.name:
        return baseline.steps
    if config.equal == "flops":
        return max(1, round(baseline.steps * baseline.flops_per_token / arm.flops_per_token))
    if seconds_per_step is None:
        return 0
    return max(1, round(baseline.steps * seconds_per_step[baseline.name] / seconds_per_step[arm.name]))


def _require_end(arm: ArmPlan, baseline: ArmPlan) -> None:
    """Refuses what does not fit where an arm ends: a decay that ends at another step, no validation before."""
    fixed = next((key for key in ("decay_steps", "decay_tokens") if getattr(arm.schedule, key) is not None), None)
    if arm.steps != baseline.steps and fixed and arm.schedule.name == "cosine":
        raise InputError(
            f"arms.{arm.name}: ends at step {arm.steps} and {baseline.name} at {baseline.steps}, so a decay of fixed "
            f"length does not end with both; set model.schedule.{fixed} to null"
        )
    interval, first = arm.settings["trainer"]["val_check_interval"], min(arm.steps, baseline.steps)
    if arm.steps != baseline.steps and isinstance(interval, int) and interval > first:
        raise InputError(
            f"trainer.val_check_interval: found {interval}, but an arm ends at step {first}; arms of different lengths "
            "are shown to see the same batches where both validate, so lower it in overrides"
        )
    try:
        build_schedule(arm.schedule, arm.steps, arm.tokens_per_step)
    except InputError as error:
        raise InputError(f"arms.{arm.name}: {error}") from error


def _require_parameters(config: ComparisonConfig, arm: ArmPlan, baseline: ArmPlan) -> None:
    rounded = any(one.decoder.feed_forward_mismatch for one in (arm, baseline))
    multiple = arm.decoder.gated_size_multiple
    fit = f"a multiple of {3 * multiple if multiple % 2 else 3 * multiple // 2}"
    advice = (
        f"a gated width is rounded: set model.decoder.intermediate_size to {fit}, or gated_size_multiple to 1"
        if rounded
        else f"set model.decoder.intermediate_size in arms.{arm.name}"
    )
    for what, name in (("parameters", "num_parameters"), ("active parameters", "num_active_parameters")):
        ours, theirs = getattr(arm.decoder, name), getattr(baseline.decoder, name)
        if abs(ours / theirs - 1) > config.tolerance:
            raise InputError(f"{_difference(config, arm, ours, theirs, what)}; {advice}")


def _require_close(config: ComparisonConfig, arm: ArmPlan, ours: float, theirs: float, what: str) -> None:
    if abs(ours / theirs - 1) > config.tolerance:
        raise InputError(
            f"{_difference(config, arm, ours, theirs, what)} after rounding to whole steps; train longer "
            "(trainer.max_steps or data.max_tokens in overrides), or raise tolerance"
        )


def _difference(config: ComparisonConfig, arm: ArmPlan, ours: float, theirs: float, what: str) -> str:
    return (
        f"arms.{arm.name}: {ours:,.12g} {what}, the baseline {config.baseline} has {theirs:,.12g} "
        f"({ours / theirs - 1:+.2%}, tolerance {config.tolerance:.2%})"
    )

"""Lengths, tolerances and refusals of plans."""

from dataclasses import replace

import pytest

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.comparison.config import ComparisonConfig, flat, nested
from lightning_polycom.comparison.plan import ArmPlan, plan_lengths, require_equal
from lightning_polycom.errors import InputError
from lightning_polycom.model import DecoderConfig
from lightning_polycom.training.schedules import ScheduleConfig

DECODER = DecoderConfig(100, 64, 2, 2, 192)


def arm(
    name: str, steps: int = 1000, schedule: ScheduleConfig = ScheduleConfig(), interval: int = 100, **changes
) -> ArmPlan:
    decoder = replace(DECODER, activation=ActivationConfig(changes.pop("activation", "relu")), **changes)
    settings = {"trainer": {"val_check_interval": interval}, "model": {"initial_weights": None}}
    return ArmPlan(name, decoder, schedule, 64, 1024, steps, settings)


def config(**changes) -> ComparisonConfig:
    arms = {"relu": {}, "other": {}}
    return ComparisonConfig(
        **{"name": "n", "base": "b.yaml", "arms": arms, "baseline": "relu", "seeds": [1], **changes}
    )


def test_equal_parameters_keep_the_steps_and_pass_an_exact_gate():
    arms = [arm("relu"), arm("other", activation="swiglu")]
    planned = plan_lengths(config(), arms, None)
    assert [one.steps for one in planned] == [1000, 1000]
    require_equal(config(tolerance=0), planned)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"activation": "swiglu", "intermediate_size": 200}, "to a multiple of 12, or gated_size_multiple to 1"),
        ({"intermediate_size": 200}, "model.decoder.intermediate_size in arms.other"),
    ],
)
def test_more_parameters_than_the_tolerance_name_arm_numbers_and_key(changes, key):
    other = arm("other", **changes)
    with pytest.raises(InputError) as error:
        require_equal(config(tolerance=0.001), [arm("relu"), other])
    message = str(error.value)
    assert message.startswith("arms.other: ") and key in message
    assert f"{other.decoder.num_parameters:,}" in message and f"{DECODER.num_parameters - 8:,}" in message
    require_equal(config(tolerance=0.1), [arm("relu"), other])


def test_equal_flops_give_a_wider_arm_fewer_steps():
    wide = arm("other", intermediate_size=384)
    planned = plan_lengths(config(equal="flops"), [arm("relu"), wide], None)
    assert planned[0].steps == 1000
    assert planned[1].steps == round(1000 * arm("relu").flops_per_token / wide.flops_per_token) < 1000
    assert planned[1].flops == pytest.approx(planned[0].flops, rel=1e-3)
    require_equal(config(equal="flops"), planned)
    short = plan_lengths(
        config(equal="flops"), [arm("relu", 3, interval=1), replace(wide, settings=arm("x", interval=1).settings)], None
    )
    with pytest.raises(InputError, match=r"arms.other: .* training FLOPs, .* after rounding to whole steps"):
        require_equal(config(equal="flops"), short)


def test_equal_time_follows_the_measured_times_and_waits_for_them():
    arms = [arm("relu"), arm("other")]
    assert [one.steps for one in plan_lengths(config(equal="time"), arms, None)] == [1000, 0]
    seconds = {"relu": 0.1, "other": 0.125}
    planned = plan_lengths(config(equal="time"), arms, seconds)
    assert [one.steps for one in planned] == [1000, 800]
    require_equal(config(equal="time"), planned, seconds)


def test_a_decay_of_fixed_length_and_a_late_validation_are_refused_where_lengths_differ():
    seconds = {"relu": 0.1, "other": 0.2}
    fixed = ScheduleConfig(decay_steps=1000)
    with pytest.raises(InputError, match=r"model\.schedule\.decay_steps to null"):
        plan_lengths(config(equal="time"), [arm("relu", schedule=fixed), arm("other", schedule=fixed)], seconds)
    with pytest.raises(InputError, match=r"trainer\.val_check_interval: found 600"):
        plan_lengths(config(equal="time"), [arm("relu", interval=600), arm("other", interval=600)], seconds)
    with pytest.raises(InputError, match="no end"):
        plan_lengths(config(), [arm("relu", steps=-1), arm("other", steps=-1)], None)


def test_only_what_is_outside_the_feed_forward_must_start_alike():
    assert arm("a", activation="swiglu", intermediate_size=384).starts_like(arm("b"))
    assert not arm("a", num_layers=3).starts_like(arm("b"))


def test_dotted_and_nested_keys_are_the_same():
    dotted = {"a.b": 1, "a.c.d": {}}
    assert nested(dotted) == {"a": {"b": 1, "c": {"d": {}}}} and flat(nested(dotted)) == dotted
    with pytest.raises(InputError, match="keep one"):
        nested({"a": 1, "a.b": 2})

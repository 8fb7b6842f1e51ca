"""A trace's time by part of the step: every moment belongs to the innermost event that has a part."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from lightning_polycom.benchmarking.step_profile.scopes import (
    ACTIVATION,
    ATTENTION,
    LOSS,
    NORMS,
    OPTIMIZER,
    PART,
    ROUTING,
)

PRODUCTS, FUSED, DATA, CASTS = "matrix products", "fused kernels", "data", "casts"
FRAMEWORK, OTHER, IDLE = "framework", "other", "device idle"
PARTS = (PRODUCTS, ATTENTION, ACTIVATION, NORMS, ROUTING, LOSS, FUSED, CASTS, OPTIMIZER, DATA, FRAMEWORK, OTHER, IDLE)

# Operations that say themselves what they are, whatever scope they are in; in this order.
OPERATIONS = (
    (("scaled_dot_product", "flash_attention", "efficient_attention", "cudnn_attention"), ATTENTION),
    (
        ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "_grouped_mm", "grouped_rows", "grouped_sums"),
        PRODUCTS,
    ),
    (("mkldnn::_linear", "mkl::_mkl_linear", "aten::mkldnn", "_sums_rows"), PRODUCTS),
    (("aten::cross_entropy", "aten::log_softmax", "aten::_log_softmax", "aten::nll_loss"), LOSS),
    (("cpp_fused", "triton_poi", "triton_per", "triton_red"), FUSED),
)
# Scopes of Lightning and torch, by the beginning of their name or by what is in it.
SCOPES = (
    ("Optimizer.", OPTIMIZER),
    ("[_TrainingEpochLoop].train_dataloader_next", DATA),
    ("batch_to_device", DATA),
    ("LanguageModel.training_step", OTHER),
    (".backward", OTHER),
    ("autograd::engine", OTHER),
    ("run_training_batch", FRAMEWORK),
    ("[Callback]", FRAMEWORK),
    ("[LightningModule]", FRAMEWORK),
    ("[Strategy]", FRAMEWORK),
)
BACKWARD = "autograd::engine::evaluate_function: "


class Shares(NamedTuple):
    """Seconds of one step by part, in the order of `PARTS`; they add up to `total`, a step's wall time."""

    seconds: dict[str, float]
    total: float

    def record(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {"seconds_of_a_step": self.total, "seconds": self.seconds}

    def lines(self) -> list[str]:
        """A table."""
        rows = [
            f"  {part:<18}{seconds * 1000:>10.3f} ms{seconds / self.total:>8.1%}"
            for part, seconds in self.seconds.items()
        ]
        return [*rows, f"  {'sum':<18}{self.total * 1000:>10.3f} ms{sum(self.seconds.values()) / self.total:>8.1%}"]


def host_shares(events: Iterable[Any], thread: int, wall_seconds: float, steps: int) -> Shares:
    """Shares of the time of the host's main `thread`, for a run on a CPU.

    `events` are those of torch's profiler over `steps` optimizer steps that took `wall_seconds`. What no event covers
    is the loop's own Python.
    """
    own = [event for event in events if event.thread == thread and not event.is_async]
    parts = _parts(own)
    found: Counter[str] = Counter()
    for event in own:
        found[parts[id(event)]] += max(0.0, event.self_cpu_time_total) / 1e6
    found[FRAMEWORK] += wall_seconds - sum(found.values())
    return _shares(found, wall_seconds, steps)


def device_shares(events: Iterable[Any], wall_seconds: float, steps: int) -> Shares:
    """Shares of the time of a GPU: each kernel counts for the operation that launched it; the rest is idle."""
    events = [event for event in events if event.cpu_children is not None]
    parts = _parts(events)
    found: Counter[str] = Counter()
    for event in events:
        for kernel in event.kernels:
            found[_of_operation(kernel.name) or parts[id(event)]] += kernel.duration / 1e6
    found[IDLE] += wall_seconds - sum(found.values())
    return _shares(found, wall_seconds, steps)


def costliest(events: Iterable[Any], steps: int, count: int, on_device: bool) -> list[str]:
    """Lines for the operations, or a GPU's kernels, that take most of a step's time."""
    seconds, calls = Counter(), Counter()
    for event in events:
        spans = (
            [(k.name, k.duration) for k in event.kernels] if on_device else [(event.name, event.self_cpu_time_total)]
        )
        for name, duration in spans:
            seconds[name] += duration / 1e6 / steps
            calls[name] += 1 / steps
    most = seconds.most_common(count)
    return [f"  {spent * 1000:>10.3f} ms{calls[name]:>9.1f} x  {name[:90]}" for name, spent in most]


def _parts(events: list[Any]) -> dict[int, str]:
    """The part of every event, by its id: its own, its forward operation's, or that of the event around it."""
    forward: dict[int, str] = {}
    found: dict[int, str] = {}
    for event in sorted(events, key=lambda e: (e.time_range.start, -e.time_range.end)):  # parents come first
        around = found.get(id(event.cpu_parent), FRAMEWORK)
        if event.name.startswith(BACKWARD):
            # Of the operation whose gradient it forms. The last forward operation with a number made its node.
            part = CASTS if "ToCopyBackward" in event.name else forward.get(event.sequence_nr, OTHER)
        else:
            part = _own_part(event.name, around) or around
            if event.sequence_nr >= 0 and "Backward" not in event.name:
                forward[event.sequence_nr] = part
        found[id(event)] = part
    return found


def _own_part(name: str, around: str) -> str | None:
    if name.startswith(PART):
        return name.removeprefix(PART)
    if name in ("aten::to", "aten::_to_copy") and around in (OTHER, ATTENTION, ROUTING):
        return CASTS  # autocast's
    return _of_operation(name) or next((part for key, part in SCOPES if key in name), None)


def _of_operation(name: str) -> str | None:
    return next((part for keys, part in OPERATIONS if any(key in name for key in keys)), None)


def _shares(found: Counter[str], wall_seconds: float, steps: int) -> Shares:
    return Shares({part: found[part] / steps for part in PARTS if found[part]}, wall_seconds / steps)

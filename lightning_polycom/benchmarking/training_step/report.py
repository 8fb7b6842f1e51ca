"""What a person reads of contenders measured side by side."""

from collections.abc import Iterator

from lightning_polycom.benchmarking.training_step.contenders import CONTENDERS
from lightning_polycom.benchmarking.training_step.side_by_side import Measured, Ratio

PEERS = ("transformers", "litgpt", "plain")
MAX_OVERHEAD = 1.0  # milliseconds of an optimizer step
MAX_ARM_TIME = 1.03  # of SwiGLU's
GPU_PEAK = 989e12  # dense bf16 FLOP/s of an H100 or H200


def contender_lines(found: Measured) -> Iterator[str]:
    """A table of speeds, ours over theirs, and the goals that it decides."""
    ours = next(iter(found.cases))
    speed_of_ours = f"speed of {ours} over theirs (quartiles), by wall, by CPU"
    yield f"  {'contender':<14}{'tokens/s':>10}{'best':>10}{'MiB':>8}{'loss':>9}   {speed_of_ours}"
    for name in found.cases:
        typical, best = found.tokens_per_second(name)
        loss = found.first_losses[name]
        wall, cpu = found.time_ratio(name, ours), found.time_ratio(name, ours, "cpu_seconds")
        cells = f"{typical:>10,.0f}{best:>10,.0f}{found.peak_bytes(name) / 2**20:>8,.0f}"
        first = f"{loss:>9.4f}" if loss is not None else f"{'':>9}"
        verdict = f"; {_verdict(wall.median >= 1)}: at least 1" if name in PEERS else ""
        yield f"  {name:<14}{cells}{first}   {_text(wall)}   {_text(cpu)}{verdict}"
        yield from _share_of_peak(found, name, typical)
    if {"fit", "bare"} <= found.cases.keys():
        yield _overhead_line(found)


def arm_lines(found: Measured) -> Iterator[str]:
    """A table of activations in the same trainer, as ratios to the first one, and the goals."""
    base = next(iter(found.cases))
    time_over_base = f"time over {base}'s (quartiles), by wall, by CPU"
    yield f"  {'activation':<14}{'tokens/s':>10}{'best':>10}{'MiB':>8}   {time_over_base}"
    for name in found.cases:
        typical, best = found.tokens_per_second(name)
        wall, cpu = found.time_ratio(name, base), found.time_ratio(name, base, "cpu_seconds")
        memory = found.peak_bytes(name) / max(1, found.peak_bytes(base))
        judged = name not in (base, "authors")
        verdict = f"; {_verdict(wall.median <= MAX_ARM_TIME)}: at most {MAX_ARM_TIME}" if judged else ""
        cells = f"{typical:>10,.0f}{best:>10,.0f}{found.peak_bytes(name) / 2**20:>8,.0f}"
        yield f"  {name:<14}{cells}   {_text(wall)}   {_text(cpu)}, memory {memory:.2f}{verdict}"
        yield from _share_of_peak(found, name, typical)


def legend(names: list[str]) -> Iterator[str]:
    """What the contenders are."""
    for name in names:
        yield f"  {name:<14}{CONTENDERS[name]}"


def _overhead_line(found: Measured) -> str:
    wall = found.extra_milliseconds("fit", "bare")
    cpu = found.extra_milliseconds("fit", "bare", "cpu_seconds")
    goal = f"{_verdict(wall.median <= MAX_OVERHEAD)}: at most {MAX_OVERHEAD:.0f} ms"
    return f"  fit beyond bare, ms an optimizer step: {_text(wall)} by wall, {_text(cpu)} by CPU; {goal}"


def _share_of_peak(found: Measured, name: str, tokens_per_second: float) -> Iterator[str]:
    """On a GPU the model's FLOPs as a share of the peak, and the memory against what the dry run says."""
    case = found.cases[name]
    if case.device != "cuda":
        return
    from lightning_polycom.training.step_memory import StepShape, count_step_memory

    shape = case.training_shape
    config = shape.decoder_config(case.activation)
    share = ""
    if "bf16" in case.precision:
        achieved = tokens_per_second * config.flops_per_token(shape.sequence)
        share = f"{achieved / GPU_PEAK:.1%} of {GPU_PEAK / 1e12:.0f} TFLOP/s; "
    weights = 4 * config.num_parameters
    memory = (found.peak_bytes(name) + weights) / 2**30
    estimate = count_step_memory(config, StepShape(shape.batch, shape.sequence, precision=case.precision)).peak / 2**30
    yield f"  {'':<14}{share}{memory:.1f} GiB, the dry run says {estimate:.1f}"


def _text(ratio: Ratio) -> str:
    return f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


def _verdict(met: bool) -> str:
    return "met" if met else "NOT met"

"""Measures the activations on this machine, prints the table as it grows, and returns every number."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from lightning_polycom import atomic
from lightning_polycom.activations import Activation, build_activation
from lightning_polycom.benchmarking import table
from lightning_polycom.benchmarking.cpu_timing import CpuClock
from lightning_polycom.benchmarking.goals import goals
from lightning_polycom.benchmarking.gpu_timing import GpuClock
from lightning_polycom.benchmarking.machine import machine_line, machine_record
from lightning_polycom.benchmarking.measurement import Group, Measurement, Skipped
from lightning_polycom.benchmarking.options import CONTRAST, ActivationBenchmarkOptions, Plan, Size
from lightning_polycom.benchmarking.ways import Unavailable, way_of
from lightning_polycom.errors import InputError
from lightning_polycom.training.compilation import missing_compiler

Clock = CpuClock | GpuClock
Report = Callable[[str], None]


def bench_activations(options: ActivationBenchmarkOptions, report: Report) -> dict:
    """Measures what `options` says, gives `report` each line, writes `options.output`, and returns the same record.

    On a CPU torch is set to one thread, for this process.

    Raises:
        InputError: an unknown activation, or a GPU asked for that is not there.
    """
    plan = options.plan(_device(options.device))
    for name in plan.names:
        build_activation(name, width=1)  # a misspelt name is found before anything is measured
    if options.output is not None:  # so is a folder that cannot be made
        Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    if plan.device == "cpu":
        torch.set_num_threads(1)
    machine = machine_record(plan.device)
    report(machine_line(machine))
    clock = (CpuClock if plan.device == "cpu" else GpuClock)(plan.repetitions)
    groups = [measure_group(plan, size, dtype, clock, report) for dtype in plan.dtypes for size in plan.sizes]
    if not all(group.settled for group in groups):
        report(table.UNSETTLED_NOTE)
    found = goals(groups)
    for line in table.goal_lines(found):
        report(line)
    record = {
        "machine": machine,
        "repetitions": plan.repetitions,
        "groups": [group.record() for group in groups],
        "goals": [{**goal._asdict(), "met": goal.met} for goal in found],
    }
    if options.output is not None:
        atomic.write_json(options.output, record)
        report(f"\nEvery number is in {options.output}")
    return record


def measure_group(plan: Plan, size: Size, dtype: str, clock: Clock, report: Report) -> Group:
    """Measures every activation and way of the plan over tensors of one size and dtype."""
    torch.manual_seed(0)
    x, up, g = (torch.randn(size, device=plan.device).to(getattr(torch, dtype)) for _ in range(3))
    group = Group(plan.device, dtype, *size, yardstick=clock.yardstick(x, g))
    for line in table.heading(group):
        report(line)
    for name in (*CONTRAST, *plan.names):
        for way in dict.fromkeys(("module", *plan.ways)) if name in CONTRAST else plan.ways:
            module = build_activation(name, width=size.width).to(plan.device)
            inputs = [t.requires_grad_() for t in ((x, up) if module.gated else (x,))]
            found = measure_activation(name, way, module, inputs, g, clock)
            if isinstance(found, Measurement):
                group.measurements.append(found)
                report(table.row(group, found))
            elif found is not None:
                group.skipped.append(found)
                report(table.skipped_row(found))
    return group


def measure_activation(
    name: str, way: str, module: Activation, inputs: list[Tensor], g: Tensor, clock: Clock
) -> Measurement | Skipped | None:
    """Times one way to compute one activation; None if the way does not apply to it."""
    # Graphs of earlier ways count against torch's limit of 8 a function, behind which it runs eagerly in silence.
    torch.compiler.reset()
    if way.endswith("_compiled") and (missing := missing_compiler(g.device)) is not None:
        return Skipped(name, way, missing)
    try:
        contestant = way_of(way, module)
        return None if contestant is None else Measurement(name, way, module.gated, clock.times(contestant, inputs, g))
    except Unavailable as reason:
        return Skipped(name, way, str(reason))
    except torch.OutOfMemoryError:
        return Skipped(name, way, "out of memory")
    except Exception as error:  # one way that fails, of whatever cause, must not lose the others' numbers
        return Skipped(name, way, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _device(name: str) -> str:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device: found no GPU that this torch can use; give cpu or auto")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name

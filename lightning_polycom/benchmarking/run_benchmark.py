"""Measures one run on this machine, part by part, and holds each part against its ceiling."""

from collections.abc import Callable
from typing import Any

import lightning as L

from lightning_polycom.benchmarking.activation_share import measure_own_activation
from lightning_polycom.benchmarking.benched_run import BenchedRun
from lightning_polycom.benchmarking.ceilings import Ceilings, measure_ceilings, product_kind
from lightning_polycom.benchmarking.data_benchmark import measure_data
from lightning_polycom.benchmarking.machine import machine_record
from lightning_polycom.benchmarking.measurement import Group
from lightning_polycom.benchmarking.own_products import (
    MeasuredProduct,
    flops_per_second,
    measure_products,
    products_of,
)
from lightning_polycom.benchmarking.run_options import PARTS, REPETITIONS, RunBenchmarkOptions
from lightning_polycom.benchmarking.step_benchmark import (
    MeasuredStep,
    OutOfMemory,
    is_out_of_memory,
    measure_step,
    step_record,
)
from lightning_polycom.benchmarking.stopwatch import Stopwatch

# The process' peak memory is the step's only if the step comes first.
ORDER = ("step", "data", "evaluation", "ceilings", "activation")
OUT_OF_MEMORY = "out of memory; give a smaller --data.micro_batch_size"


def bench_run(run: BenchedRun, options: RunBenchmarkOptions, progress: Callable[[str], None]) -> dict[str, Any]:
    """Measures the parts that `options` names, and returns every number as plain types.

    `progress` is told what is measured next. A part that needs more memory than there is has `left_out`, which says so.

    Raises:
        InputError: settings that a run would refuse too.
    """
    trainer = run.trainer()
    device = trainer.strategy.root_device.type
    stopwatch = Stopwatch(device, options.repetitions or REPETITIONS[device])
    machine, found = machine_record(device), {}
    for part in ORDER:
        if part in options.chosen:
            progress(PARTS[part])
            found[part] = _measured_or_none(part, run, trainer, stopwatch)
    ceilings = found["ceilings"][0] if found.get("ceilings") else None
    record = {"machine": machine, "run": run.record(), "repetitions": stopwatch.repetitions}
    for part in options.chosen:
        record[part] = _record(part, found, run, device, ceilings)
    return record


def _measured_or_none(part: str, run: BenchedRun, trainer: L.Trainer, stopwatch: Stopwatch) -> Any:
    """What `_measured` gives, or None if that takes more memory than there is."""
    try:
        return _measured(part, run, trainer, stopwatch)
    except OutOfMemory:
        return None
    except RuntimeError as error:
        if is_out_of_memory(error):
            return None
        raise


def _measured(part: str, run: BenchedRun, trainer: L.Trainer, stopwatch: Stopwatch) -> Any:
    config, kind = run.model.decoder_config, product_kind(run.precision, stopwatch.device)
    if part == "step":
        return measure_step(run, trainer, stopwatch.repetitions)
    if part == "data":
        return measure_data(run, trainer)
    if part == "evaluation":
        from lightning_polycom.benchmarking.evaluation_benchmark import measure_evaluation  # lm-eval takes seconds

        return measure_evaluation(config, run.precision, stopwatch)
    if part == "ceilings":
        products = measure_products(stopwatch, products_of(config, run.micro_batch_tokens), kind)
        fastest = max(found.flops_per_second for found in products)
        return measure_ceilings(stopwatch).raised(kind, fastest), products
    return measure_own_activation(config, run.micro_batch_tokens, kind, run.model.compiled, stopwatch)


def _record(part: str, found: dict[str, Any], run: BenchedRun, device: str, ceilings: Ceilings | None) -> dict:
    value, step = found[part], found.get("step")
    if value is None:
        return {"left_out": OUT_OF_MEMORY}
    if part == "step":
        return step_record(run, value, device, ceilings)
    if part == "data":
        return data_record(value, step)
    if part == "evaluation":
        return value.record()
    if part == "ceilings":
        return ceilings_record(*value, product_kind(run.precision, device))
    return activation_record(value)


def ceilings_record(ceilings: Ceilings, products: list[MeasuredProduct], kind: str) -> dict[str, Any]:
    """The ceilings, and the run's own products as shares of their peak, for JSON."""
    peak = ceilings.products[kind]
    rows = [
        {
            **found.product._asdict(),
            "measured_rows": found.rows,
            "flops_per_second": found.flops_per_second,
            "share": found.flops_per_second / peak,
        }
        for found in products
    ]
    together = flops_per_second(products)
    return {
        "copy_bytes_per_second": ceilings.bandwidth,
        "product_flops_per_second": ceilings.products,
        "kind": kind,
        "products": rows,
        "products_together": {"flops_per_second": together, "share": together / peak},
    }


def data_record(delivered: float, step: MeasuredStep | None) -> dict[str, Any]:
    """Tokens per second that the data has alone, and the share of them that the step takes, for JSON."""
    share = None if step is None else step.tokens_per_second / delivered
    return {"tokens_per_second": delivered, "share_taken_by_step": share}


def activation_record(group: Group) -> dict[str, Any]:
    """The activation's times and its share of the yardstick's bandwidth, forward and backward together, for JSON."""
    record = group.record()
    for row in record["measurements"]:
        row["share"] = 1 / row["ratio_to_floor"]
    return record

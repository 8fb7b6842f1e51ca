"""The lines that `polycom bench` prints of a run."""

from typing import Any

from lightning_polycom.benchmarking.machine import machine_line
from lightning_polycom.benchmarking.options import WAYS
from lightning_polycom.benchmarking.table import UNSETTLED, UNSETTLED_NOTE

NAME = 34  # characters of the first column
TITLES = {
    "ceilings": "Ceilings",
    "activation": "Activation",
    "step": "Training step",
    "data": "Data",
    "evaluation": "Evaluation",
}
AS_FAST = 1.2  # bf16 products at this many times fp32's are worth a word


def lines(record: dict[str, Any]) -> list[str]:
    """Everything in the record that `bench_run` returns; parts that it lacks are left out."""
    found = [machine_line(record["machine"]), _run_line(record["run"])]
    for part, part_lines in (
        ("ceilings", _ceilings),
        ("activation", _activation),
        ("step", _step),
        ("data", _data),
        ("evaluation", _evaluation),
    ):
        if "left_out" in record.get(part, ()):
            found += ["", f"{TITLES[part]}: left out: {record[part]['left_out']}"]
        elif part in record:
            found += ["", *part_lines(record[part], record)]
    return [*found, *_advice(record)]


def percent(share: float | None) -> str:
    """A share as per cent, a dash where there is no ceiling to share."""
    return "-" if share is None else f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def speed(flops_per_second: float) -> str:
    """FLOP/s in the unit that suits them."""
    scale, unit = (1e12, "TFLOP/s") if flops_per_second >= 1e11 else (1e9, "GFLOP/s")
    return f"{flops_per_second / scale:,.2f} {unit}"


def micro_batches(count: int) -> str:
    """The number in words."""
    return "1 micro-batch" if count == 1 else f"{count} micro-batches"


def _run_line(run: dict[str, Any]) -> str:
    activation = run["decoder"]["activation"]["name"]
    compiled = "compiled" if run["compile"] else "not compiled"
    batch = f"{run['micro_batch_size']} x {run['sequence_length']} tokens, {micro_batches(run['accumulation'])} a step"
    return f"{activation}, {run['parameters']:,} parameters, {run['precision']}, {compiled}; {batch}; {run['text']}"


def _row(name: str, value: str, share: str = "") -> str:
    return f"  {name:<{NAME}}{value:>22}   {share}".rstrip()


def _ceilings(part: dict[str, Any], record: dict[str, Any]) -> list[str]:
    found = ["Ceilings", _row("copy", f"{part['copy_bytes_per_second'] / 1e9:,.1f} GB/s")]
    for kind, value in part["product_flops_per_second"].items():
        found.append(_row(f"matrix product, {kind}", speed(value)))
    found += ["", f"Matrix products of the run, {part['kind']}, forward: of the product's ceiling"]
    for row in part["products"]:
        groups = f"{row['groups']} x " if row["groups"] > 1 else ""
        found.append(_row(row["name"], speed(row["flops_per_second"]), percent(row["share"])))
        found[-1] += f"  {row['count']} of ({row['rows']} x {row['inner']}) ({groups}{row['inner']} x {row['outer']})"
    together = part["products_together"]
    return [*found, _row("all of a forward pass", speed(together["flops_per_second"]), percent(together["share"]))]


def _activation(part: dict[str, Any], record: dict[str, Any]) -> list[str]:
    bandwidth = f"{part['yardstick_bytes_per_second'] / 1e9:,.1f} GB/s"
    where = "a copy" if part["device"] == "cuda" else "a copy and an addition"
    found = [f"Activation, {part['dtype']}, {part['rows']} x {part['width']}: of {bandwidth}, {where} of its tensors"]
    settled = part["yardstick_seconds"]["settled"]
    for row in part["measurements"]:
        mark = "" if row["seconds"]["settled"] else UNSETTLED
        settled &= row["seconds"]["settled"]
        name = f"{row['name']}, {WAYS[row['way']]}"
        found.append(_row(name, f"{row['seconds']['both'] * 1e3:,.3f} ms{mark}", percent(row["share"])))
    found += [_row(f"{row['name']}, {WAYS[row['way']]}", "left out", row["reason"]) for row in part["skipped"]]
    return found if settled else [*found, f"  {UNSETTLED_NOTE}"]


def _step(part: dict[str, Any], record: dict[str, Any]) -> list[str]:
    achieved = f"{speed(part['flops_per_second'])}, model FLOPs"
    found = [
        f"Training step, {part['seconds'] * 1e3:,.1f} ms: of the product's ceiling; the optimizer's of the copy's",
        _row("whole", f"{part['tokens_per_second']:,.0f} tokens/s", f"{percent(part['share'])}  {achieved}"),
    ]
    for name, row in part["parts"].items():
        value = f"{percent(row['share_of_step'])} of the step"
        found.append(_row(name, value, "" if name == "rest" else percent(row["share"])))
    memory = "process" if record["machine"]["device"] == "cpu" else "tensors"
    return [*found, _row(f"peak memory ({memory})", f"{part['peak_memory_bytes'] / 2**30:,.2f} GiB")]


def _data(part: dict[str, Any], record: dict[str, Any]) -> list[str]:
    share = part["share_taken_by_step"]
    taken = "" if share is None else f"the step takes {percent(share) if share >= 1e-3 else 'less than 0.1%'} of it"
    return ["Data", _row("delivered alone", f"{part['tokens_per_second'] / 1e6:,.2f} M tokens/s", taken)]


def _evaluation(part: dict[str, Any], record: dict[str, Any]) -> list[str]:
    saved = f"{part['asked_tokens_per_second'] / part['computed_tokens_per_second']:.2f} asked for one computed"
    return [
        "Evaluation: of the forward pass alone",
        _row("forward pass alone", f"{part['forward_tokens_per_second']:,.0f} tokens/s"),
        _row("computed", f"{part['computed_tokens_per_second']:,.0f} tokens/s", percent(part["share"])),
        _row("asked for", f"{part['asked_tokens_per_second']:,.0f} tokens/s", saved),
    ]


def _advice(record: dict[str, Any]) -> list[str]:
    """Names bf16 to a run in fp32 whose machine multiplies bf16 faster."""
    part, instructions = record.get("ceilings"), record["machine"]["bf16_instructions"]
    if part is None or "left_out" in part or part["kind"] == "bf16":
        return []
    times = part["product_flops_per_second"]["bf16"] / part["product_flops_per_second"][part["kind"]]
    if times < AS_FAST:
        return []
    on_gpu = record["machine"]["device"] == "cuda"
    by = "" if on_gpu or instructions is None else f" (this processor has {instructions})"
    return ["", f"bf16 products are {times:.1f} times as fast here{by}: --trainer.precision bf16-mixed"]

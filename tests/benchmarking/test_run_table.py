"""What is printed of a run, from invented numbers; a run's own record is printed in the tests of the command."""

import pytest

from lightning_polycom.benchmarking import run_table

VERSIONS = {"torch": "2", "triton": "3"}
CPU = {
    "device": "cpu", "processor": "a CPU", "vector_instructions": "AVX512", "bf16_instructions": "AMX", "threads": 2,
    "malloc_settings": None, "versions": VERSIONS,
}  # fmt: skip
GPU = {**CPU, "device": "cuda", "gpu": "a GPU", "cuda": "13", "polynomials": "Triton kernels"}
RUN = {
    "decoder": {"activation": {"name": "relu"}}, "parameters": 1234, "precision": "32-true", "compile": True,
    "micro_batch_size": 4, "sequence_length": 64, "accumulation": 3, "text": "data/some",
}  # fmt: skip


def ceilings(bf16: float, kind: str = "fp32") -> dict:
    row = {"name": "up", "rows": 8, "inner": 4, "outer": 16, "count": 2, "groups": 1}
    return {
        "copy_bytes_per_second": 5e9,
        "product_flops_per_second": {"fp32": 1e12, "bf16": bf16},
        "kind": kind,
        "products": [
            {**row, "flops_per_second": 5e11, "share": 0.5},
            {**row, "groups": 8, "flops_per_second": 2e10, "share": 0.02},
        ],
        "products_together": {"flops_per_second": 4e11, "share": 0.4},
    }


@pytest.mark.parametrize(
    ("share", "expected"), [(None, "-"), (0.5, "50%"), (0.0123, "1.2%"), (1.5, "150%"), (0.1, "10%")]
)
def test_shares_are_per_cent(share, expected):
    assert run_table.percent(share) == expected


def test_flops_have_the_unit_that_suits_them():
    assert run_table.speed(989e12) == "989.00 TFLOP/s" and run_table.speed(5.25e9) == "5.25 GFLOP/s"


def test_the_lines_of_ceilings_and_run():
    lines = run_table.lines({"machine": CPU, "run": RUN, "ceilings": ceilings(1e12)})
    assert lines[0].startswith("a CPU, AVX512 and AMX, 2 threads; ")
    assert lines[1] == "relu, 1,234 parameters, 32-true, compiled; 4 x 64 tokens, 3 micro-batches a step; data/some"
    ends = [line.split(maxsplit=1)[1].split("   ")[-1] for line in lines if line.startswith("  up ")]
    assert ends == ["50%  2 of (8 x 4) (4 x 16)", "2.0%  2 of (8 x 4) (8 x 4 x 16)"]
    assert lines[-1].split() == ["all", "of", "a", "forward", "pass", "0.40", "TFLOP/s", "40%"]


@pytest.mark.parametrize(
    ("machine", "bf16", "kind", "advice"),
    [
        (CPU, 4e12, "fp32", "bf16 products are 4.0 times as fast here (this processor has AMX): "),
        ({**CPU, "bf16_instructions": None}, 1.3e12, "fp32", "bf16 products are 1.3 times as fast here: "),
        (GPU, 8e12, "fp32", "bf16 products are 8.0 times as fast here: "),
        (CPU, 1.1e12, "fp32", None),
        (CPU, 4e12, "bf16", None),
    ],
)
def test_bf16_is_advised_where_it_is_faster_and_not_in_use(machine, bf16, kind, advice):
    last = run_table.lines({"machine": machine, "run": RUN, "ceilings": ceilings(bf16, kind)})[-1]
    assert (last == f"{advice}--trainer.precision bf16-mixed") if advice else ("bf16 products" not in last)


def test_a_gpus_memory_is_that_of_its_tensors_and_its_yardstick_a_copy():
    part = {"seconds": 1.0, "share_of_step": 0.25, "share": None}
    step = {
        "seconds": 2.0, "tokens_per_second": 1e4, "flops_per_second": 1e14, "share": None,
        "peak_memory_bytes": 3 * 2**30, "parts": {"forward": part, "rest": part},
    }  # fmt: skip
    activation = {
        "device": "cuda", "dtype": "bfloat16", "rows": 8, "width": 16, "yardstick_bytes_per_second": 4e12,
        "yardstick_seconds": {"settled": True}, "skipped": [{"name": "relu", "way": "module", "reason": "no memory"}],
        "measurements": [{"name": "gelu", "way": "module", "seconds": {"both": 1e-3, "settled": False}, "share": 0.9}],
    }  # fmt: skip
    lines = run_table.lines({"machine": GPU, "run": RUN, "activation": activation, "step": step})
    text = "\n".join(lines)
    assert "of 4,000.0 GB/s, a copy of its tensors" in text and "1.000 ms*   90%" in text
    assert "left out   no memory" in text and "* no repetition was free of page faults" in text
    assert lines[-1].split("   ")[0].strip() == "peak memory (tensors)" and lines[-1].endswith("3.00 GiB")
    assert "25% of the step   -" in text and lines[-2].endswith("25% of the step")

"""What the compiler makes of the kernels for sm_90: nothing spills, and enough loads are in flight, at every width."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs Triton, which comes with CUDA builds of torch and the extra dev")

# Expert and feed-forward widths of the paper's models and of Llama's, two powers of two, and one very wide.
WIDTHS = (1536, 2048, 5504, 8192, 8256, 11008, 32768)


def reports(widths: tuple[int, ...], orders: tuple[int, ...]) -> list[dict]:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [
        sys.executable,
        Path(__file__).with_name("compile_for_hopper.py"),
        *(",".join(map(str, n)) for n in (widths, orders)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


OTHER_ORDERS = (pytest.param(order, marks=pytest.mark.long) for order in (1, 2, 4))


@pytest.mark.slow
@pytest.mark.parametrize("order", [3, *OTHER_ORDERS])
def test_nothing_spills_and_loads_keep_the_memory_busy(order):
    found = reports(WIDTHS, (order,))
    assert len(found) == 8 * len(WIDTHS)
    for report in found:
        assert report["spilled"] == 0, report
        # About 26 KiB a multiprocessor hide the latency of a memory of 4 TB/s; two programs overlap their phases.
        assert report["programs"] >= 2 or report["kib_in_flight"] >= 64, report
        assert report["load_bits"] >= 64, report


@pytest.mark.parametrize("tensors", [1, 2, 3])
@pytest.mark.parametrize("width", [1, 31, 100, 1024, 1537, 16384, 16385, 50000, *WIDTHS])
def test_rows_are_covered_by_whole_chunks_of_a_power_of_two(width, tensors):
    from lightning_polycom.activations.kernels.triton_launch import divide_row

    block, num_warps, _ = divide_row(width, tensors)
    assert block & (block - 1) == 0 and num_warps in (1, 2, 4, 8, 16)
    lanes = -(-width // block) * block
    assert lanes >= width and (lanes <= 1.13 * width or block == num_warps * 64)


@pytest.mark.parametrize("tensors", [1, 2, 3])
def test_no_cliff_of_padding_at_the_widths_of_real_models(tensors):
    from lightning_polycom.activations.kernels.triton_launch import divide_row

    for width in WIDTHS:
        block, _, _ = divide_row(width, tensors)
        assert -(-width // block) * block <= 1.13 * width

"""What this machine can do at best: bytes copied and matrix products, per second."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from lightning_polycom.benchmarking.stopwatch import Stopwatch

COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}  # beyond the caches of either
PRODUCT_SIZES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}  # square; the fastest counts
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Ceilings:
    """Bytes per second, read and written, of a copy; FLOP/s of a matrix product by kind (`DTYPES`)."""

    bandwidth: float
    products: dict[str, float]

    def raised(self, kind: str, flops_per_second: float) -> "Ceilings":
        """With the fastest product of this kind that was measured, which another one may be than those it knows."""
        products = self.products | {kind: max(self.products[kind], flops_per_second)}
        return replace(self, products=products)


def product_kind(precision: str, device: str) -> str:
    """The kind of matrix product (`DTYPES`) that a run of this Trainer's precision makes on `cpu` or `cuda`."""
    if "bf16" in precision:
        return "bf16"
    # A GPU multiplies fp32 in full unless it is told otherwise, which `fit` does not do, but the environment may.
    return "tf32" if device == "cuda" and torch.get_float32_matmul_precision() != "highest" else "fp32"


def measure_ceilings(
    stopwatch: Stopwatch, copy_bytes: int | None = None, sizes: tuple[int, ...] | None = None
) -> Ceilings:
    """Measures the stopwatch's device with torch's threads as they are set.

    Args:
        stopwatch: Its device is the one that is measured.
        copy_bytes: Bytes of the copied tensor; default by device.
        sizes: Square sizes of the products; default by device.
    """
    device = stopwatch.device
    kinds = ("fp32", "tf32", "bf16") if device == "cuda" else ("fp32", "bf16")
    sizes = sizes or PRODUCT_SIZES[device]
    products = {kind: max(square_product(stopwatch, kind, size) for size in sizes) for kind in kinds}
    return Ceilings(copy_bandwidth(stopwatch, copy_bytes or COPY_BYTES[device]), products)


def copy_bandwidth(stopwatch: Stopwatch, num_bytes: int) -> float:
    """Bytes per second, those read and those written, of a copy of `num_bytes` from one tensor to another."""
    # Written once: pages of zeros that were never written are one and the same page.
    source, target = (torch.ones(num_bytes // 4, device=stopwatch.device) for _ in range(2))
    return 2 * source.nbytes / stopwatch.seconds(lambda: target.copy_(source))


def square_product(stopwatch: Stopwatch, kind: str, size: int) -> float:
    """FLOP/s of a product of two square matrices, the second one as a linear layer's weight."""
    left, weight, result = (torch.randn(size, size, device=stopwatch.device).to(DTYPES[kind]) for _ in range(3))
    with tf32(kind == "tf32"):
        return 2 * size**3 / stopwatch.seconds(lambda: torch.mm(left, weight.t(), out=result))


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Lets fp32 products on a GPU use its TF32 units, or not, inside the block."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

"""Times on a CUDA device by events around each run, with the L2 cache emptied before it."""

from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from lightning_polycom.benchmarking.measurement import Times
from lightning_polycom.benchmarking.ways import Way

WARM_UP = 5
FLUSH_BYTES = 2**29  # ten times the L2 cache of an H100
# Written this often before each run, so that the host has launched the run before the device reaches it: launches
# then cost nothing, as in a training step, whose host is ahead.
FLUSHES = 3


class GpuClock:
    """The median over repetitions of the device's seconds, forward and backward apart and together."""

    def __init__(self, repetitions: int):
        self.repetitions = repetitions
        self.buffer: Tensor | None = None

    def yardstick(self, x: Tensor, g: Tensor) -> Times:
        """A copy of a tensor shaped like `x`: the bandwidth that the device has for two passes."""
        y = torch.empty_like(x)
        return Times(self.median_seconds(lambda _: y.copy_(x)))

    def times(self, way: Way, inputs: list[Tensor], g: Tensor) -> Times:
        """Forward with what it keeps; backward of a graph built just before, outside of the timed span; both."""
        wanted = (*inputs, *way.trained)

        def forward(_: object = None) -> Tensor:
            return way.run(*inputs)

        def backward(y: Tensor) -> tuple[Tensor, ...]:
            return torch.autograd.grad(y, wanted, g)

        return Times(
            self.median_seconds(lambda _: backward(forward())),
            self.median_seconds(forward),
            self.median_seconds(backward, before=forward),
        )

    def median_seconds(self, run: Callable[[object], object], before: Callable[[], object] | None = None) -> float:
        """Median seconds of `run`, which gets what `before` returns; `before` and the flush are not timed."""
        spans = []
        for _ in range(WARM_UP + self.repetitions):
            given = None if before is None else before()
            self._flush()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run(given)
            end.record()
            spans.append((start, end))
        torch.cuda.synchronize()
        return median(start.elapsed_time(end) for start, end in spans[WARM_UP:]) / 1000

    def _flush(self) -> None:
        if self.buffer is None:
            self.buffer = torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda")
        for _ in range(FLUSHES):
            self.buffer.zero_()

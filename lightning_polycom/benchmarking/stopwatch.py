"""The seconds of one piece of work on either kind of device."""

import time
from collections.abc import Callable
from statistics import median

import torch

from lightning_polycom.benchmarking.cpu_timing import WARM_UP, CpuClock
from lightning_polycom.benchmarking.gpu_timing import GpuClock


class Stopwatch:
    """Wall time of a CPU's threads, the best of the repetitions; or a GPU's own seconds, their median.

    A CPU's number is the best because neighbours only make it worse. On a GPU the L2 cache is emptied before each
    repetition, so that what is read comes from the memory.

    Args:
        device: `cpu` or `cuda`.
        repetitions: Runs that count, after some that do not.
    """

    def __init__(self, device: str, repetitions: int):
        self.device, self.repetitions = device, repetitions
        self.clock = GpuClock(repetitions) if device == "cuda" else CpuClock(repetitions, wall=True)

    def seconds(self, run: Callable[[], object]) -> float:
        """Seconds of one `run`."""
        if isinstance(self.clock, GpuClock):
            return self.clock.median_seconds(lambda _: run())
        for _ in range(WARM_UP):
            run()
        return min(_passed(run) for _ in range(self.repetitions))

    def wall(self, run: Callable[[], object]) -> float:
        """Median wall time of one `run` on the host and the device in turns, after one that does not count."""

        def finished() -> None:
            run()
            if self.device == "cuda":
                torch.cuda.synchronize()

        finished()
        return median(_passed(finished) for _ in range(self.repetitions))


def _passed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start

"""Times on a CPU: the best of the repetitions that the allocator left alone."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_polycom.benchmarking.measurement import Times
from lightning_polycom.benchmarking.ways import Way

WARM_UP = 2
# Even with malloc's settings a heap is fragmented at first and grows, and each new page costs a fault: such
# repetitions do not count. A fresh tensor of a MiB is 256 faults.
MAX_FAULTS = 200
MAX_TRIES = 40
MAX_SECONDS = 60.0  # of one thing, so that an eager formula over large tensors ends


class CpuClock:
    """CPU seconds of the calling thread, because cores are noisy; torch must be set to one thread.

    With `wall` it is wall time, for any number of threads.
    """

    def __init__(self, repetitions: int, wall: bool = False):
        self.repetitions, self.wall = repetitions, wall

    def yardstick(self, x: Tensor, g: Tensor) -> Times:
        """A copy plus a two-input add over tensors shaped like `x`: read x, write y; read x and g, write dx."""
        y, dx = torch.empty_like(x), torch.empty_like(x)
        return best_seconds(lambda: (y.copy_(x), torch.add(x, g, out=dx)), self.repetitions, self.wall)

    def times(self, way: Way, inputs: list[Tensor], g: Tensor) -> Times:
        """One forward and backward with the gradients of `inputs` and of what is trained."""
        wanted = (*inputs, *way.trained)
        return best_seconds(lambda: torch.autograd.grad(way.run(*inputs), wanted, g), self.repetitions, self.wall)


def best_seconds(run: Callable[[], object], repetitions: int, wall: bool = False) -> Times:
    """The least seconds of `repetitions` runs without page faults, or of all tries where none was free of them.

    CPU seconds of this thread, or with `wall` those that pass.
    """
    clock = time.perf_counter if wall else time.thread_time
    for _ in range(WARM_UP):
        run()
    quiet, disturbed, begin = [], [], clock()
    for tried in range(max(MAX_TRIES, repetitions)):
        if len(quiet) == repetitions or (tried >= repetitions and clock() - begin > MAX_SECONDS):
            break
        faults, start = _page_faults(), clock()
        run()
        seconds = clock() - start
        (quiet if _page_faults() - faults < MAX_FAULTS else disturbed).append(seconds)
    return Times(min(quiet or disturbed), settled=bool(quiet))


def _page_faults() -> int:
    """Minor page faults of this process so far; always 0 on Windows, which does not say."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

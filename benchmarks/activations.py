"""Forward and backward of the activations as ratios to the memory's own speed in the same run, on CPU or GPU.

Run: python benchmarks/activations.py [--size 1024x8192] [--dtype float32 bfloat16] [--device auto] [--output FILE]
The same as `polycom bench activations`, with its options.

On a CPU: one thread, whose CPU seconds count, best of several, because cores are noisy; repetitions in which the
allocator took new pages from the system do not count. Unit: a copy of x plus the sum of two tensors into a third, the
five passes that no activation can do without (read x, write y; read x and dy, write dx).
On a GPU: median of several, events around each run, L2 cache emptied before it. Unit: the bandwidth of a copy.

Claims: PolyNorm compiled takes at most 2.1 times the CPU's unit and a fifteenth of the authors' formula, PolyReLU
compiled at most 1.3 times the unit. On a GPU the kernels reach 80% of the copy's bandwidth forward and backward, 1.5
times the speed of Liger-Kernel's and 1.2 times that of the compiled formula, in at most 1.1 times the time of fused
GELU. The command says which of them the machine at hand meets.
"""

import sys

from lightning_polycom.benchmarking.malloc_settings import restart_with_malloc_settings
from lightning_polycom.cli import main

if __name__ == "__main__":
    restart_with_malloc_settings()  # before argv is no longer the process's own
    sys.argv[1:1] = ["bench", "activations"]
    main()

"""Forward and backward of the activations on one CPU thread, as ratios to the memory stream of the same run.

Run: python benchmarks/activations.py [--rows 1024] [--width 8192] [--dtype float32 bfloat16] [--repetitions 5]

Unit: a copy of x plus the sum of two tensors into a third, the five passes that no activation can do without (read x,
write y; read x and dy, write dx). Times are CPU seconds of the one thread, best of several, because cores are noisy.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lightning_polycom.activations import build_activation, functional

# glibc returns tensors above 32 MiB to the system, and each new one is then page-faulted anew.
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


def restart_with_malloc_settings() -> None:
    """Replaces this process by one with the settings, which glibc reads at the start only."""
    if any(os.environ.get(key) != value for key, value in MALLOC.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **MALLOC})


def best_seconds(run: Callable[[], object], repetitions: int) -> float:
    """The least CPU seconds of this thread over `repetitions` runs, after two that do not count."""
    times = []
    for _ in range(repetitions + 2):
        start = time.thread_time()
        run()
        times.append(time.thread_time() - start)
    return min(times[2:])


def stream_floor(x: Tensor, g: Tensor, repetitions: int) -> float:
    """Seconds of a copy plus a two-input add over tensors shaped like `x`."""
    y, dx = torch.empty_like(x), torch.empty_like(x)
    return best_seconds(lambda: (y.copy_(x), torch.add(x, g, out=dx)), repetitions)


def recomputed_polynorm(x: Tensor, coefficients: Tensor, bias: Tensor, eps: float = 1e-6) -> Tensor:
    """PolyNorm's formula operation by operation in the input's dtype, with recomputation, as the authors run it."""

    def formula(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        powers = [x**p for p in range(1, 4)]
        return sum(a[p] * u * torch.rsqrt(u.pow(2).mean(-1, keepdim=True) + eps) for p, u in enumerate(powers)) + b

    return checkpoint(formula, x, coefficients.to(x.dtype), bias.to(x.dtype), use_reentrant=False)


def recomputed_polyrelu(x: Tensor, coefficients: Tensor, bias: Tensor) -> Tensor:
    """PolyReLU's formula operation by operation in the input's dtype, with recomputation, as the authors run it."""

    def formula(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return sum(a[p] * torch.relu(x) ** (p + 1) for p in range(3)) + b

    return checkpoint(formula, x, coefficients.to(x.dtype), bias.to(x.dtype), use_reentrant=False)


def contestants(name: str) -> dict[str, tuple[Callable[[Tensor], Tensor], list[Tensor]]]:
    """Ways to compute one polynomial activation, each with the parameters whose gradients it must give."""
    module = build_activation(name)
    trained = list(module.parameters())
    authors = {"polynorm": recomputed_polynorm, "polyrelu": recomputed_polyrelu}[name]
    plain = partial(functional.polynorm, eps=1e-6) if name == "polynorm" else functional.polyrelu
    return {
        "authors' formula, recomputed": (lambda x: authors(x, *trained), trained),
        "reference formula, eager": (lambda x: plain(x, *trained), trained),
        "reference formula, compiled": (torch.compile(lambda x: plain(x, *trained)), trained),
        "module, eager in chunks": (module, trained),
        "module, compiled": (torch.compile(module), trained),
    }


def seconds_of(run: Callable[[Tensor], Tensor], trained: list[Tensor], x: Tensor, g: Tensor, repetitions: int) -> float:
    """Seconds of one forward and backward with the gradients of `x` and of `trained`."""
    return best_seconds(lambda: torch.autograd.grad(run(x), (x, *trained), g), repetitions)


def print_ladder(dtype: torch.dtype, rows: int, width: int, repetitions: int) -> None:
    """One line per activation and way, as a ratio to the stream floor of the same tensors."""
    torch.manual_seed(0)
    x, g = (torch.randn(rows, width).to(dtype) for _ in range(2))
    x.requires_grad_()
    floor = stream_floor(x.detach(), g, repetitions)
    print(f"\n{dtype}, {rows} x {width}: floor {floor * 1e3:.1f} ms", flush=True)
    for name in ("relu", "gelu"):
        print(f"  {name:<9} {'eager':<30} {seconds_of(build_activation(name), [], x, g, repetitions) / floor:6.2f}")
    for name in ("polyrelu", "polynorm"):
        for way, (run, trained) in contestants(name).items():
            ratio = seconds_of(run, trained, x, g, repetitions) / floor
            print(f"  {name:<9} {way:<30} {ratio:6.2f}", flush=True)


def main() -> None:
    """Parses the sizes and prints the ladder for each dtype."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--width", type=int, default=8192)
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    restart_with_malloc_settings()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread; {MALLOC}")
    for dtype in arguments.dtype:
        print_ladder(getattr(torch, dtype), arguments.rows, arguments.width, arguments.repetitions)


if __name__ == "__main__":
    main()

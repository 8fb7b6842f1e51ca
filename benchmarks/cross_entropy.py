"""The head's loss in chunks against whole logits: time and memory of forward and backward, on this machine's CPU.

Run: python benchmarks/cross_entropy.py [--rounds 5] [--shapes 4096x384x4096 2048x512x32000] [--dtypes float32 bfloat16]

A shape is tokens x hidden_size x vocab_size. `bfloat16` is autocast's: weights stay fp32. Both ways take turns on one
thread, whose CPU seconds are the clock, because cores are noisy; in every second round the other goes first, and the
ratio is the median over rounds. Memory is counted, not sampled: the peak of bytes of live tensors that operations
return, beyond those that any way needs - inputs, the head's copy in the products' dtype, and gradients. It is held
against the bytes of the logits in the products' dtype. What kernels allocate inside themselves is not in it.

Claims: at most 1/8 of the logits' memory, at most 1.15 times the time.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_polycom.model.linear_cross_entropy import chunked_linear_cross_entropy
from lightning_polycom.model.loss import LossSums, next_token_loss
from lightning_polycom.training.live_bytes import peak_bytes
from lightning_polycom.training.processor import processor_name

SHAPES = ("4096x384x4096", "2048x512x32000", "2048x2048x50304")
MAX_SHARE, MAX_TIME = 1 / 8, 1.15


class Inputs(NamedTuple):
    """Hidden states (1, tokens, hidden_size), head (vocab_size, hidden_size), labels (1, tokens)."""

    hidden: Tensor
    weight: Tensor
    labels: Tensor


def whole(hidden: Tensor, weight: Tensor, labels: Tensor) -> LossSums:
    """The plain way."""
    return next_token_loss(F.linear(hidden, weight), labels)


def made(tokens: int, hidden_size: int, vocab_size: int) -> Inputs:
    """Random inputs whose logits have a deviation of 1."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, tokens, hidden_size, generator=generator)
    weight = torch.randn(vocab_size, hidden_size, generator=generator) / hidden_size**0.5
    labels = torch.randint(0, vocab_size, (1, tokens), generator=generator)
    return Inputs(hidden.requires_grad_(), weight.requires_grad_(), labels)


def step(loss: Callable[..., LossSums], inputs: Inputs, dtype: torch.dtype) -> Callable[[], None]:
    """Forward and backward of the mean loss, into fresh gradients."""

    def run() -> None:
        inputs.hidden.grad = inputs.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
            sums = loss(*inputs)
        (sums.total / sums.num_tokens).backward()

    return run


def memory_share(run: Callable[[], None], inputs: Inputs, dtype: torch.dtype) -> float:
    """Peak bytes beyond what any way needs, as a share of the logits'."""
    inputs.hidden.grad = inputs.weight.grad = None
    held = sum(tensor.nbytes for tensor in inputs)
    gradients = inputs.hidden.nbytes + inputs.weight.nbytes
    copy = 0 if dtype == torch.float32 else inputs.weight.numel() * dtype.itemsize
    beyond = peak_bytes(run, inputs) - held - gradients - copy
    return beyond / (inputs.labels.numel() * len(inputs.weight) * dtype.itemsize)


def time_pairs(runs: list[Callable[[], None]], rounds: int) -> list[tuple[float, float]]:
    """CPU seconds of the two, round by round, after one of each to warm up."""

    def seconds(run: Callable[[], None]) -> float:
        start = time.thread_time()
        run()
        return time.thread_time() - start

    for run in runs:
        run()
    found = []
    for number in range(rounds):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        times = {which: seconds(runs[which]) for which in order}
        found.append((times[0], times[1]))
    return found


def print_row(shape: str, dtype: torch.dtype, rounds: int) -> None:
    """Measures one shape and dtype, and prints its line."""
    inputs = made(*map(int, shape.split("x")))
    runs = [step(loss, inputs, dtype) for loss in (whole, chunked_linear_cross_entropy)]
    shares = [memory_share(run, inputs, dtype) for run in runs]
    times = time_pairs(runs, rounds)
    ratios = [chunked / plain for plain, chunked in times]
    low, middle, high = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    plain, chunked = (1000 * median(column) for column in zip(*times, strict=True))
    verdict = "met" if shares[1] <= MAX_SHARE and middle <= MAX_TIME else "NOT met"
    print(
        f"  {shape:<18}{str(dtype).removeprefix('torch.'):<10}memory {shares[1]:.3f} of the logits' (whole "
        f"{shares[0]:.2f}), time {chunked:>7.0f} ms, whole {plain:>7.0f} ms, ratio {middle:.3f} "
        f"({low:.3f} to {high:.3f}); {verdict}: at most {MAX_SHARE:.3f} and {MAX_TIME}",
        flush=True,
    )


def main() -> None:
    """Parses the options and measures every shape in every dtype."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), help="tokens x hidden_size x vocab_size")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{processor_name()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, one thread")
    for shape in arguments.shapes:
        for dtype in arguments.dtypes:
            print_row(shape, getattr(torch, dtype), arguments.rounds)


if __name__ == "__main__":
    main()

"""What it costs to keep documents apart: a decoder's training step with and without, on this machine's CPU.

Run: python benchmarks/document_mask.py [--threads N] [--dtype bfloat16] [--rounds 8] [--shapes 8x512 2x4096]
    [--median 400] [--blocks eager compiled]

One step is forward, next-token loss and backward of a decoder of 4 layers, width 384. `together` is plain causal
attention over the whole row, `apart` is what `data.separate_documents` runs on a CPU, one document after the other, and
`dense mask` is the alternative: one boolean mask for all layers. Every step has a step of `together` right beside it,
before and after in turns, and the ratio is the median over such pairs, because cores are noisy. With one thread the
clock is that thread's CPU seconds, with more it is wall time. Steps take turns at four batches of documents; their
lengths are drawn from a log-normal law with the given median and a standard deviation of the logarithm of 1.

Claims: a step costs no more with documents apart than without at 8 x 512, and at most 0.8 as much at 2 x 4096.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from statistics import median, quantiles
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.data.documents import document_positions
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.document_attention import segments
from lightning_polycom.model.initialization import initialize
from lightning_polycom.model.linear_cross_entropy import read_loss
from lightning_polycom.training.compilation import compile_blocks
from lightning_polycom.training.processor import processor_name

VOCABULARY, BATCHES = 4096, 4
ARMS = ("together", "apart", "dense mask")
TARGETS = {(8, 512): 1.0, (2, 4096): 0.8}  # of the time of `together`, for `apart`

Step = Callable[[], None]


class Batch(NamedTuple):
    """Tokens, targets and positions, each (batch, sequence)."""

    input_ids: Tensor
    labels: Tensor
    positions: Tensor


def batches(shape: tuple[int, int], middle: int) -> list[Batch]:
    """Random tokens in documents of `middle` tokens in the median, other ones in every batch."""
    generator, made = torch.Generator().manual_seed(0), []
    for _ in range(BATCHES):
        tokens = torch.randint(0, VOCABULARY, (2, *shape), generator=generator)
        ends, last = torch.zeros(shape[0] * shape[1], dtype=torch.bool), 0
        while last < ends.numel():
            ends[last] = True
            last += max(2, int(middle * torch.randn((), generator=generator).exp()))
        made.append(Batch(*tokens, torch.from_numpy(document_positions(ends.view(shape).numpy()))))
    return made


@contextmanager
def way_of(arm: str) -> Iterator[None]:
    """Makes the decoder take the dense mask, if that is the arm."""
    available, segments.AVAILABLE = segments.AVAILABLE, arm != "dense mask" and segments.AVAILABLE
    try:
        yield
    finally:
        segments.AVAILABLE = available


def training_step(arm: str, shape: tuple[int, int], middle: int, dtype: torch.dtype, compiled: bool) -> Step:
    """A function that runs forward and backward of a decoder of its own on the next batch."""
    config = DecoderConfig(VOCABULARY, 384, 4, 6, 1536, ActivationConfig("polynorm"), max_sequence_length=shape[1])
    decoder, turns = Decoder(config), cycle(batches(shape, middle))
    initialize(decoder, 1)
    if compiled:
        compile_blocks(decoder)

    def step() -> None:
        batch = next(turns)
        decoder.zero_grad()
        with way_of(arm), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            sums = decoder(
                batch.input_ids, None if arm == "together" else batch.positions, read=read_loss(batch.labels)
            )
        (sums.total / sums.num_tokens).backward()

    return step


def pairs(steps: dict[str, Step], rounds: int, clock: Callable[[], float]) -> dict[str, list[tuple[float, float]]]:
    """Seconds of `together` and of the arm's step beside it, for each arm; in every second round the arm's is first."""

    def seconds(arm: str) -> float:
        start = clock()
        steps[arm]()
        return clock() - start

    found: dict[str, list[tuple[float, float]]] = {arm: [] for arm in ARMS[1:]}
    for number in range(rounds):
        for arm, times in found.items():
            if number % 2:
                own = seconds(arm)
                times.append((seconds(ARMS[0]), own))
            else:
                times.append((seconds(ARMS[0]), seconds(arm)))
    return found


def print_rows(found: dict[str, list[tuple[float, float]]], shape: tuple[int, int], blocks: str) -> None:
    """One line an arm: milliseconds, the median ratio and its quartiles, and the claim."""
    for arm, times in found.items():
        ratios = [own / base for base, own in times]
        low, middle, high = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        base, own = (1000 * median(column) for column in zip(*times, strict=True))
        goal = TARGETS.get(shape) if arm == "apart" else None
        verdict = "" if goal is None else f"; {'met' if middle <= goal else 'NOT met'}: at most {goal}"
        print(
            f"  {shape[0]} x {shape[1]:<6}{blocks:<10}{arm:<12}{own:>7.0f} ms, together {base:>6.0f} ms, "
            f"ratio {middle:.3f} ({low:.3f} to {high:.3f}){verdict}",
            flush=True,
        )


def main() -> None:
    """Parses the options, warms the steps up, measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, help="default: torch's own")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of autocast")
    parser.add_argument("--rounds", type=int, default=8, help="4 see each batch once")
    parser.add_argument("--shapes", nargs="+", default=["8x512", "2x4096"], help="sequences x tokens")
    parser.add_argument("--median", type=int, default=400, help="tokens of the median document")
    parser.add_argument("--blocks", nargs="+", default=["eager", "compiled"], choices=["eager", "compiled"])
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    threads = torch.get_num_threads()
    clock, clock_name = (time.thread_time, "CPU seconds") if threads == 1 else (time.perf_counter, "wall time")
    torch._dynamo.config.recompile_limit = 64  # the arms share the code of a block
    print(f"{processor_name()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}")
    print(f"{arguments.dtype}, {threads} threads, {clock_name}, documents of {arguments.median} tokens (median)")
    for blocks in arguments.blocks:
        for shape in (tuple(map(int, shape.split("x"))) for shape in arguments.shapes):
            options = (shape, arguments.median, getattr(torch, arguments.dtype), blocks == "compiled")
            steps = {arm: training_step(arm, *options) for arm in ARMS}  # compiling one drops what was compiled before
            for step in steps.values():
                step()
                step()
            print_rows(pairs(steps, arguments.rounds, clock), shape, blocks)


if __name__ == "__main__":
    main()

"""Tokens per second of a 17M-parameter decoder with each activation, relative to ReLU, on this machine's CPU.

Run: python benchmarks/decoder_activations.py [--threads N] [--dtype bfloat16] [--rounds 12] [--arms relu polynorm]

One optimizer step is forward, next-token loss, backward, clipping and fused AdamW over 8 x 512 tokens, with the blocks
compiled as `polycom fit` compiles them (`--eager`: not). Every step of an arm has a step of the baseline right beside
it, before and after in turns, and the ratio is the median over such pairs, because cores are noisy. With one thread the
clock is that thread's CPU seconds, with more it is wall time. Tokens per second are of the median step.

Claim: PolyNorm trains at 0.97 of ReLU's tokens per second or more; the authors' formula in its place is the contrast.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from statistics import median, quantiles

import torch
from torch import Tensor

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.initialization import initialize
from lightning_polycom.model.linear_cross_entropy import read_loss
from lightning_polycom.training.compilation import compile_blocks
from lightning_polycom.training.optimizers import OptimizerConfig, build_optimizer
from lightning_polycom.training.processor import processor_name

ARMS = ("relu", "gelu", "swiglu", "polyrelu", "polynorm", "authors")
NAMES = {"authors": "lightning_polycom.benchmarking.authors_formula.AuthorsPolyNorm"}
BATCH, SEQUENCE, VOCABULARY = 8, 512, 4096
TARGET = 0.97  # of ReLU's tokens per second, for PolyNorm

Step = Callable[[], None]


def decoder_config(arm: str) -> DecoderConfig:
    """The same decoder for every arm but for its activation."""
    activation = ActivationConfig(NAMES.get(arm, arm))
    return DecoderConfig(VOCABULARY, 384, 8, 6, 1536, activation, max_sequence_length=SEQUENCE)


def build_decoder(arm: str, eager: bool) -> Decoder:
    """An initialised decoder, its blocks compiled unless `eager`."""
    decoder = Decoder(decoder_config(arm))
    initialize(decoder, 1)
    if not eager:
        compile_blocks(decoder)
    return decoder


def training_step(decoder: Decoder, dtype: torch.dtype, tokens: Tensor) -> Step:
    """A function that trains `decoder` for one optimizer step on `tokens` (batch, sequence + 1)."""
    optimizer = build_optimizer(OptimizerConfig(), decoder)
    inputs, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            sums = decoder(inputs, read=read_loss(labels))
        (sums.total / sums.num_tokens).backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()

    return step


def pairs(steps: dict[str, Step], rounds: int, clock: Callable[[], float]) -> Iterator[tuple[str, float, float]]:
    """Arm, seconds of the first arm's step and of the arm's beside it; in every second round the arm's comes first."""
    baseline = next(iter(steps))

    def seconds(arm: str) -> float:
        start = clock()
        steps[arm]()
        return clock() - start

    for number in range(rounds):
        for arm in steps:
            if number % 2:
                second = seconds(arm)
                yield arm, seconds(baseline), second
            else:
                first = seconds(baseline)
                yield arm, first, seconds(arm)
        print(f"  round {number + 1} of {rounds}", flush=True)


def prepared_steps(arms: list[str], dtype: torch.dtype, eager: bool) -> dict[str, Step]:
    """A warm training step of every arm."""
    # All arms share the code of a block, of which torch compiles 8 versions before it goes on eagerly.
    torch._dynamo.config.recompile_limit = 64
    tokens = torch.randint(0, VOCABULARY, (BATCH, SEQUENCE + 1), generator=torch.Generator().manual_seed(0))
    # Before the first step, because compiling an arm drops what was compiled for the others.
    decoders = {arm: build_decoder(arm, eager) for arm in arms}
    steps = {arm: training_step(decoder, dtype, tokens) for arm, decoder in decoders.items()}
    for arm, step in steps.items():
        start = time.perf_counter()
        for _ in range(3):
            step()
        size = decoders[arm].config.num_parameters
        print(f"  {arm}: {size:,} parameters, ready in {time.perf_counter() - start:.0f} s", flush=True)
    return steps


def print_table(found: list[tuple[str, float, float]], judged: bool) -> None:
    """Tokens per second, and the median and quartiles of the ratio to the baseline; the claim, if `judged`."""
    width = max(len(arm) for arm, _, _ in found) + 2
    print(f"\n  {'activation':<{width}}{'tokens/s':>10}   of {found[0][0]} (quartiles)")
    for arm in dict.fromkeys(arm for arm, _, _ in found):
        seconds = [own for name, _, own in found if name == arm]
        ratios = [base / own for name, base, own in found if name == arm]
        low, middle, high = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        verdict = "met" if middle >= TARGET else "NOT met"
        goal = f"; {verdict}: at least {TARGET}" if judged and arm == "polynorm" else ""
        speed = f"{BATCH * SEQUENCE / median(seconds):>10,.0f}"
        print(f"  {arm:<{width}}{speed}   {middle:.3f} ({low:.3f} to {high:.3f}){goal}")


def main() -> None:
    """Parses the options, warms the arms up, measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, help="default: torch's own")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"], help="of autocast")
    parser.add_argument("--rounds", type=int, default=12)
    names = f"registered names, import paths, {', '.join(NAMES)}; the first is the baseline"
    parser.add_argument("--arms", nargs="+", default=list(ARMS), help=names)
    parser.add_argument("--eager", action="store_true", help="leave the blocks uncompiled")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    threads = torch.get_num_threads()
    clock, clock_name = (time.thread_time, "CPU seconds") if threads == 1 else (time.perf_counter, "wall time")
    blocks = "eager" if arguments.eager else "compiled"
    print(f"{processor_name()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}")
    print(f"{arguments.dtype}, blocks {blocks}, {threads} threads, {clock_name}, {BATCH} x {SEQUENCE} tokens a step")
    steps = prepared_steps(arguments.arms, getattr(torch, arguments.dtype), arguments.eager)
    judged = not arguments.eager and arguments.arms[0] == "relu"
    print_table(list(pairs(steps, arguments.rounds, clock)), judged)


if __name__ == "__main__":
    main()

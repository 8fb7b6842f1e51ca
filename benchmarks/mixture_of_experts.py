"""A sparse decoder's training step against the dense one of as many active parameters, and transformers' OLMoE.

Run: python benchmarks/mixture_of_experts.py [--threads 1] [--dtypes float32 bfloat16] [--rounds 6] [--eager]
     python benchmarks/mixture_of_experts.py --shape half            a layer of OLMoE, half as wide
     python benchmarks/mixture_of_experts.py --device cuda          4 layers of the paper's 1B-7B shape, on a GPU

One step is forward, loss, backward, clipping and fused AdamW. The ways: `swiglu` and `polynorm` experts, `dense`, a
SwiGLU decoder whose feed-forward is as wide as a token's experts together, and transformers' OlmoeForCausalLM with the
same SwiGLU shape, once with its loop over experts (`olmoe eager`) and once with its grouped products (`olmoe grouped`).
Blocks here are compiled as `polycom fit` compiles them (`--eager`: not); transformers' run eagerly.

On a CPU every step of a way has a step of `swiglu` right beside it, before and after in turns, and ratios are medians
over such pairs, because cores are noisy. With one thread the clock is CPU seconds, with more, and on a GPU, wall time.

Claim: at least 3 times as fast as transformers' loop. On a GPU: at least 35% of the peak of 989 TFLOP/s.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.initialization import initialize
from lightning_polycom.model.linear_cross_entropy import read_loss
from lightning_polycom.model.mixture_of_experts import MixtureOfExpertsConfig
from lightning_polycom.training.balancing import BalancingConfig, StepRouting
from lightning_polycom.training.compilation import compile_blocks
from lightning_polycom.training.optimizers import OptimizerConfig, build_optimizer
from lightning_polycom.training.processor import processor_name

WAYS = ("swiglu", "polynorm", "dense", "olmoe eager", "olmoe grouped")
TARGET = 3.0  # times the speed of transformers' loop over experts
PEAK_FLOPS, PEAK_SHARE = 989e12, 0.35  # bf16 of one H100 or H200

Step = Callable[[], None]


class Shape(NamedTuple):
    """A decoder and a batch; `width` is one expert's, of two matrices."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    width: int
    num_experts: int
    experts_per_token: int
    batch: int
    sequence: int


SHAPES = {
    "small": Shape(4096, 256, 4, 4, 192, 64, 8, 8, 256),
    "half": Shape(4096, 1024, 1, 8, 768, 64, 8, 4, 512),  # a layer of OLMoE-1B-7B, half as wide in all directions
    "slice": Shape(50304, 2048, 4, 16, 1536, 64, 8, 4, 4096),  # 4 of its 16 layers
}


def decoder_config(way: str, shape: Shape) -> DecoderConfig:
    """The decoder of one of our ways."""
    mixture = MixtureOfExpertsConfig(shape.num_experts, shape.experts_per_token)
    width = shape.width
    if way == "dense":
        mixture, width = None, shape.width * shape.experts_per_token
    return DecoderConfig(
        shape.vocab_size, shape.hidden_size, shape.num_layers, shape.num_heads, width,
        ActivationConfig("polynorm" if way == "polynorm" else "swiglu"), max_sequence_length=shape.sequence,
        qk_norm="width", mixture_of_experts=mixture,
    )  # fmt: skip


def our_loss(way: str, shape: Shape, eager: bool, device: str) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """A decoder of ours, and its loss of tokens (batch, sequence + 1)."""
    decoder = Decoder(decoder_config(way, shape))
    initialize(decoder, 1)
    decoder.to(device)
    if not eager:
        compile_blocks(decoder)

    def loss(tokens: Tensor) -> Tensor:
        sums, routings = decoder(tokens[:, :-1], read=read_loss(tokens[:, 1:]), with_routings=True)
        total = sums.total / sums.num_tokens
        if routings:
            balancing = StepRouting(BalancingConfig())
            total = total + balancing.loss(routings, tokens[:, 1:].numel(), 1, lambda tensor: tensor)
        return total

    return decoder, loss


def transformers_loss(way: str, shape: Shape, device: str) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """transformers' OLMoE of the same SwiGLU shape, with its auxiliary loss."""
    from transformers import OlmoeConfig, OlmoeForCausalLM

    config = OlmoeConfig(
        vocab_size=shape.vocab_size, hidden_size=shape.hidden_size, num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads, intermediate_size=decoder_config("swiglu", shape).feed_forward_size,
        num_experts=shape.num_experts, num_experts_per_tok=shape.experts_per_token, eos_token_id=0, pad_token_id=None,
        output_router_logits=True, use_cache=False,
    )  # fmt: skip
    config._experts_implementation = "grouped_mm" if way.endswith("grouped") else "eager"
    model = OlmoeForCausalLM(config).to(device)

    def loss(tokens: Tensor) -> Tensor:
        inputs = tokens[:, :-1]
        return model(input_ids=inputs, labels=inputs, shift_labels=tokens[:, 1:].contiguous()).loss

    return model, loss


def training_step(way: str, shape: Shape, dtype: torch.dtype, eager: bool, device: str) -> Step:
    """A function that trains for one optimizer step on random tokens."""
    build = transformers_loss if way.startswith("olmoe") else our_loss
    arguments = (way, shape, device) if build is transformers_loss else (way, shape, eager, device)
    model, loss = build(*arguments)
    optimizer = build_optimizer(OptimizerConfig(), model)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, shape.vocab_size, (shape.batch, shape.sequence + 1), generator=generator).to(device)
    print(f"  {way}: {sum(p.numel() for p in model.parameters()):,} parameters", flush=True)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            total = loss(tokens)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def measured(steps: dict[str, Step], rounds: int, clock: Callable[[], float]) -> dict[str, list[tuple[float, float]]]:
    """By way, pairs of the seconds of its step and of the first way's beside it."""
    baseline = next(iter(steps))
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in steps}

    def seconds(way: str) -> float:
        start = clock()
        steps[way]()
        return clock() - start

    for number in range(rounds):
        for way in steps:
            if number % 2:
                own = seconds(way)
                found[way].append((own, seconds(baseline)))
            else:
                base = seconds(baseline)
                found[way].append((seconds(way), base))
    return found


def print_table(found: dict[str, list[tuple[float, float]]], shape: Shape, device: str) -> None:
    """Tokens per second, the time in times of our SwiGLU experts' and, on a GPU, the share of the peak."""
    tokens = shape.batch * shape.sequence
    print(f"\n  {'way':<16}{'tokens/s':>10}   time, of swiglu's (quartiles)")
    for way, pairs in found.items():
        ratios = [own / base for own, base in pairs]
        low, middle, high = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        speed = tokens / median(own for own, _ in pairs)
        goal = ""
        if way == "olmoe eager":
            goal = f"; {'met' if middle >= TARGET else 'NOT met'}: swiglu at least {TARGET:g} times as fast"
        if device == "cuda" and not way.startswith("olmoe"):
            share = speed * decoder_config(way, shape).flops_per_token(shape.sequence) / PEAK_FLOPS
            goal = f"; {share:.1%} of the peak"
            if way != "dense":
                goal += f", {'met' if share >= PEAK_SHARE else 'NOT met'}: at least {PEAK_SHARE:.0%}"
        print(f"  {way:<16}{speed:>10,.0f}   {middle:.3f} ({low:.3f} to {high:.3f}){goal}")


def main() -> None:
    """Parses the options, warms the ways up, measures them in turns and prints a table for each dtype."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--shape", choices=SHAPES, help="default: small on a CPU, slice on a GPU")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS, help="the first is the baseline")
    parser.add_argument("--eager", action="store_true", help="leave our blocks uncompiled")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device, on_cpu = arguments.device, arguments.device == "cpu"
    shape = SHAPES[arguments.shape or ("small" if on_cpu else "slice")]
    clock = time.thread_time if on_cpu and arguments.threads == 1 else time.perf_counter

    def synchronised() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    print(f"{processor_name() if on_cpu else torch.cuda.get_device_name()}, torch {torch.__version__}, {shape}")
    # All ways share the code of a block, of which torch compiles 8 versions before it goes on eagerly.
    torch._dynamo.config.recompile_limit = 64
    for name in arguments.dtypes if on_cpu else ["bfloat16"]:
        print(f"\n{name}, our blocks {'eager' if arguments.eager else 'compiled'}, {arguments.threads} threads")
        options = (shape, getattr(torch, name), arguments.eager, device)
        steps = {way: training_step(way, *options) for way in arguments.ways}
        for step in steps.values():
            for _ in range(2):
                step()
        print_table(measured(steps, arguments.rounds, clock if on_cpu else synchronised), shape, device)


if __name__ == "__main__":
    main()

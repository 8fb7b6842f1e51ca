"""Where the time of a training step in `polycom fit` goes, as shares that add up to its wall time.

Run: python benchmarks/profile_step.py [--shape 17m] [--activation polynorm] [--precision bf16-mixed] [--steps 10]
     python benchmarks/profile_step.py --shape moe_quickstart --activation polynorm
     python benchmarks/profile_step.py --device cuda --shape 1b --activation polynorm --precision bf16-mixed --compiled

torch's profiler watches some steps of the real run: the module, Lightning's loop, callbacks and loggers, one step in
ten of which is logged. On a CPU every moment of the main thread belongs to the innermost event that has a part:
matrix products and attention are known by the operation, the rest by the module or function it runs in, and a
gradient belongs to the part of the operation it is the gradient of. `other` is the residual stream, the embedding, the
sum of gradients and Python between the model's operations, `casts` are autocast's, `framework` is Lightning's loop,
callbacks, logging and whatever no event covers. On a GPU the kernels are counted for the operation that launched
them, and the rest is idle.

Compiled blocks have no scopes inside: what is not a matrix product, attention or the loss is in `fused kernels`.
Profiling costs time itself, some microseconds an operation, which makes small operations look larger than they are.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from lightning_polycom.atomic import write_json
from lightning_polycom.benchmarking.machine import machine_record
from lightning_polycom.benchmarking.step_profile.profiled_fit import Profiled, profiled_fit
from lightning_polycom.benchmarking.step_profile.shares import costliest, device_shares, host_shares
from lightning_polycom.benchmarking.training_step.contenders import ARMS, Case
from lightning_polycom.benchmarking.training_step.corpus import prepare_corpus
from lightning_polycom.benchmarking.training_step.shapes import SHAPES
from lightning_polycom.training.processor import processor_name


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="17m", choices=list(SHAPES))
    parser.add_argument(
        "--activation", default="swiglu", help=f"a registered name, an import path, or {', '.join(ARMS)}"
    )
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--compiled", action="store_true", help="compiled blocks, as fit has by default")
    parser.add_argument("--steps", type=int, default=10, help="profiled optimizer steps, a multiple of 10")
    parser.add_argument("--batch", type=int, help="sequences of a step; default the shape's")
    parser.add_argument("--threads", type=int, help="default: torch's own")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--top", type=int, default=15, help="operations, or kernels, to list")
    parser.add_argument("--output", help="a JSON file for the shares")
    options = parser.parse_args()
    if options.steps < 1:
        parser.error(f"--steps: found {options.steps}; give 1 or more")
    return options


def report(found: Profiled, options: argparse.Namespace) -> None:
    """Prints both tables, and writes the shares."""
    on_gpu = options.device == "cuda"
    if on_gpu:
        shares = device_shares(found.events, found.seconds, found.steps)
    else:
        shares = host_shares(found.events, found.thread, found.seconds, found.steps)
    print("\nA step's wall time")
    print("\n".join(shares.lines()))
    print(f"\nThe {'kernels' if on_gpu else 'operations'} that take most of a step")
    events = found.events if on_gpu else [event for event in found.events if event.thread == found.thread]
    print("\n".join(costliest(events, found.steps, options.top, on_gpu)))
    if options.output:
        write_json(options.output, {**vars(options), "machine": machine_record(options.device), **shares.record()})


def main() -> None:
    """Profiles, and prints the tables."""
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.compiled:
        # Names the kernels of compiled blocks in the trace.
        torch._inductor.config.cpp.enable_kernel_profile = True
        torch._inductor.config.force_disable_caches = True
    activation = ARMS.get(options.activation, options.activation)
    case = Case(
        "fit", options.shape, activation, options.precision, options.compiled, options.device, batch=options.batch
    )
    shape = case.training_shape
    print(f"{processor_name()}, torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}")
    blocks = "compiled" if options.compiled else "eager"
    print(
        f"{options.shape}, {options.activation}, {options.precision}, {blocks}, {shape.batch} x {shape.sequence} tokens"
    )
    with tempfile.TemporaryDirectory() as folder:
        data = prepare_corpus(Path(folder), shape.vocab_size)
        found = profiled_fit(case, data, Path(folder), options.steps)
    report(found, options)


if __name__ == "__main__":
    main()

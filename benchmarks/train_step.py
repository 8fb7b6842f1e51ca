"""Training steps side by side: `polycom fit` against hand-written loops over our decoder, Hugging Face's, litgpt's and
a plain one, or activations against SwiGLU in `polycom fit`.

Run: python benchmarks/train_step.py [--shape 17m] [--rounds 6] [--threads N] [--contenders fit bare plain ...]
     python benchmarks/train_step.py --shape small --modes eager --contenders fit bare
     python benchmarks/train_step.py --arms [--shape 17m]
     python benchmarks/train_step.py --device cuda --shape 1b --precisions bf16-mixed --modes compiled --arms

All have the same architecture and number of parameters, fused AdamW with the same settings and groups, clipping, the
same batches in the same order, malloc settings and threads. Each is a process of its own, compiled as its users
compile it: ours block by block, the others whole. On a CPU they take turns of some steps, in every round in another
order, while the others sleep; ratios are medians over rounds, because cores are noisy. On a GPU one follows the other.
`fit` is the command itself, with its callbacks, TensorBoard and metrics.jsonl, every 10th step logged; the others
have their batches ready and log nothing. `bare` is the same decoder, so that what `fit` takes more is Lightning's loop
and ours around it: `--shape small`, whose steps take milliseconds, shows it best.

CPU seconds are those of all threads of the process; on a machine that others use too they tell more than wall time.

litgpt cannot be installed beside this package, whose jsonargparse is newer: `pip install --no-deps --target FOLDER
litgpt==0.5.13` and `--peers FOLDER`. Without it it is left out.

Claims: at least the tokens per second of each peer; at most 1 ms an optimizer step beyond the bare loop; PolyNorm and
PolyReLU at most 1.03 times SwiGLU's time, and no more memory (eagerly: a compiler's own is in the process too).
"""

import argparse
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch

from lightning_polycom.atomic import write_json
from lightning_polycom.benchmarking.machine import machine_record
from lightning_polycom.benchmarking.training_step.contenders import ARMS, CONTENDERS, Case
from lightning_polycom.benchmarking.training_step.corpus import prepare_corpus
from lightning_polycom.benchmarking.training_step.report import arm_lines, contender_lines, legend
from lightning_polycom.benchmarking.training_step.shapes import SHAPES
from lightning_polycom.benchmarking.training_step.side_by_side import measure
from lightning_polycom.training.processor import processor_name

DENSE_PEERS = ("transformers", "litgpt", "plain")


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="17m", choices=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, help="optimizer steps of a turn; default the shape's, a multiple of 10")
    parser.add_argument("--batch", type=int, help="sequences of a step; default the shape's")
    parser.add_argument("--threads", type=int, help="of each process; default torch's own")
    parser.add_argument(
        "--contenders", nargs="+", choices=list(CONTENDERS), help="the first is held against the others"
    )
    parser.add_argument("--activation", default="swiglu", help="of fit and bare; the others have SwiGLU")
    parser.add_argument("--arms", nargs="*", choices=list(ARMS), help="activations in fit instead; default all of them")
    parser.add_argument("--precisions", nargs="+", default=["32-true", "bf16-mixed"])
    parser.add_argument("--modes", nargs="+", default=["eager", "compiled"], choices=["eager", "compiled"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--peers", help="a folder with packages that are not installed")
    parser.add_argument("--output", help="a JSON file for every number")
    return parser.parse_args()


def default_contenders(options: argparse.Namespace) -> list[str]:
    """All that are there; those that know no experts only for dense shapes."""
    names = [name for name in CONTENDERS if SHAPES[options.shape].mixture is None or name not in DENSE_PEERS]
    for name in ("transformers", "litgpt"):
        there = find_spec(name) or (options.peers and (Path(options.peers) / name).is_dir())
        if name in names and not there:
            print(f"{name} is left out: it is not installed")
            names.remove(name)
    return names


def cases_of(options: argparse.Namespace, precision: str, mode: str) -> dict[str, Case]:
    """The contenders, or arms, by name."""
    common = {
        "shape": options.shape,
        "precision": precision,
        "compiled": mode == "compiled",
        "device": options.device,
        "threads": options.threads,
        "batch": options.batch,
        "peers": options.peers,
    }
    if options.arms is not None:
        return {arm: Case("fit", activation=ARMS[arm], **common) for arm in options.arms or ARMS}
    ours = {name: options.activation if name in ("fit", "bare") else "swiglu" for name in options.contenders}
    return {name: Case(name, activation=activation, **common) for name, activation in ours.items()}


def main() -> None:
    """Measures every precision and mode, and prints a table for each."""
    options, shape = parse(), None
    if options.arms is None:
        options.contenders = options.contenders or default_contenders(options)
    shape = Case("fit", options.shape, batch=options.batch).training_shape
    parameters = shape.decoder_config("swiglu").num_parameters
    threads = options.threads or torch.get_num_threads()
    print(f"{processor_name()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}")
    print(f"{parameters:,} parameters, {shape.batch} x {shape.sequence} tokens a step, {threads} threads each")
    print("\n".join(legend(options.contenders if options.arms is None else ["fit"])))
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        data = prepare_corpus(Path(folder), shape.vocab_size)
        for precision in options.precisions:
            for mode in options.modes:
                print(f"\n{options.shape}, {options.device}, {precision}, {mode}", flush=True)
                say = lambda line: print(line, flush=True)  # noqa: E731
                cases = cases_of(options, precision, mode)
                found = measure(cases, data, options.rounds, options.steps, say)
                lines = contender_lines(found) if options.arms is None else arm_lines(found)
                print("\n".join(lines), flush=True)
                tables.append({"precision": precision, "mode": mode, "contenders": found.record()})
    if options.output:
        record = {"shape": options.shape, "machine": machine_record(options.device), "tables": tables}
        write_json(options.output, record)


if __name__ == "__main__":
    main()

"""`polycom bench`: how fast a run, or the activations alone, are on this machine."""

import sys
from functools import partial

from lightning_polycom.benchmarking.malloc_settings import restart_with_malloc_settings
from lightning_polycom.benchmarking.options import CONTRAST, DEFAULTS, DEVICES, DTYPES, WAYS, ActivationBenchmarkOptions
from lightning_polycom.commands.parsing import OneLineParser
from lightning_polycom.errors import InputError

ACTIVATIONS = "activations"


def main() -> None:
    """Measures what the first word says: `activations`, or a run by its options."""
    arguments = sys.argv[2:]
    if not arguments or arguments[0].startswith("-"):
        from lightning_polycom.commands.bench_run import main as bench_run

        bench_run(arguments)
        return
    if arguments[0] != ACTIVATIONS:
        raise InputError(f"bench: found '{arguments[0]}'; give options of a run, or '{ACTIVATIONS}'")
    parser = OneLineParser(prog="polycom bench", description="Time this machine.")
    parser.add_subcommands().add_subcommand(
        ACTIVATIONS, activations_parser(), help="time activations against the memory bandwidth"
    )
    values = parser.parse_args(arguments).activations.as_dict()
    run(ActivationBenchmarkOptions(**values))


def run(options: ActivationBenchmarkOptions) -> None:
    """Measures and prints; on a CPU in a process that starts with malloc's settings."""
    if options.device != "cuda":  # before torch is imported, so that this costs a moment and not seconds
        restart_with_malloc_settings()
    from lightning_polycom.benchmarking.activation_benchmark import bench_activations

    bench_activations(options, partial(print, flush=True))


def activations_parser() -> OneLineParser:
    """The options of `activations`; what a device takes by default is in `benchmarking.options`."""
    parser = OneLineParser(
        description="Time forward and backward of the activations, as ratios to what this machine's memory needs for "
        "the tensors alone: on a CPU with one thread, on a GPU with its L2 cache emptied before each run. "
        f"{' and '.join(CONTRAST)} are always measured, as contrast."
    )
    parser.add_argument("--rows", type=int, nargs="+", help="Rows of the tensors, taken in pairs with --width.")
    parser.add_argument("--width", type=int, nargs="+", help="Columns of the tensors, taken in pairs with --rows.")
    parser.add_argument("--size", nargs="+", help=f"The same as ROWSxWIDTH; {_defaults('sizes', 'x')}.")
    parser.add_argument("--dtype", nargs="+", help=f"{', '.join(DTYPES)}; {_defaults('dtypes')}.")
    parser.add_argument("--names", nargs="+", help=f"Registered names or import paths; {_defaults('names')}.")
    parser.add_argument("--ways", nargs="+", help=f"How each is computed: {', '.join(WAYS)}; default all.")
    parser.add_argument("--device", default="auto", help=f"{', '.join(DEVICES)}; auto is a GPU if there is one.")
    parser.add_argument("--repetitions", type=int, help="Runs that count: the best of 5 (CPU), the median of 25 (GPU).")
    parser.add_argument("--output", help="A JSON file for every number, the machine and the versions.")
    return parser


def _defaults(field: str, joint: str = "") -> str:
    values = {device: getattr(plan, field) for device, plan in DEFAULTS.items()}
    texts = {device: " ".join(joint.join(map(str, v)) if joint else v for v in of) for device, of in values.items()}
    return f"default {texts['cpu']} (CPU), {texts['cuda']} (GPU)"

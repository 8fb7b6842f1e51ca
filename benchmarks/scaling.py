"""How cost grows with the work: seconds against sizes, with expected and measured slopes; and start-up times.

Run: python benchmarks/scaling.py [--axes depth width ...] [--rounds 3] [--device cuda] [--output scaling]

sequence_length, width, depth, vocabulary, experts: an optimizer step of the bare loop; expected are its FLOPs, as PaLM
counts them. corpus: from opening prepared shards to a first shuffled batch, a process each; expected is no growth.
questions: their scoring through the lm-eval adapter; expected is their number. start_up is no axis: seconds of
`polycom --help`, of the dry run of configs/dense_1b.yaml, and of `fit` to the first step of the quickstart, whose text
was prepared before.

Sizes of an axis take turns in each round; the least seconds count on a CPU, on a GPU the median. The slope is that of
logarithms over the upper half of the sizes. Writes scaling.json and scaling.png.

Claims: each measured slope is near the expected one; start-up under 1, 10 and 10 seconds.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from lightning_polycom.atomic import write_json
from lightning_polycom.benchmarking.growth.figure import write_figure
from lightning_polycom.benchmarking.growth.growth import Growth, interleaved
from lightning_polycom.benchmarking.growth.start_up import commands, seconds_of, start_up_lines
from lightning_polycom.benchmarking.growth.table import growth_lines, slope_lines
from lightning_polycom.benchmarking.malloc_settings import restart_with_malloc_settings

ROOT = Path(__file__).resolve().parents[1]
STEP_AXES = ("sequence_length", "width", "depth", "vocabulary", "experts")
AXES = (*STEP_AXES, "corpus", "questions", "start_up")
PRECISIONS = {"cpu": "32-true", "cuda": "bf16-mixed"}
REPETITIONS = 3  # of a size's turn, after some that do not count


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", default=list(AXES), choices=AXES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=list(PRECISIONS))
    parser.add_argument("--precision", help="default 32-true on a CPU, bf16-mixed on a GPU")
    parser.add_argument("--activation", default="polynorm")
    parser.add_argument(
        "--sizes", choices=["tiny", "cpu", "cuda"], help="default by device; tiny only shows that it works"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("scaling"), help="a folder for scaling.json and scaling.png"
    )
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds: found {options.rounds}; give at least 1")
    options.precision = options.precision or PRECISIONS[options.device]
    options.sizes = options.sizes or options.device
    return options


def turns_of(axis: str, options: argparse.Namespace) -> dict[int, tuple[float, Callable[[], float]]]:
    """At each size of an axis the work, and what times it once and returns the seconds."""
    from lightning_polycom.benchmarking.growth.shapes import PRESETS, shape_at, step_flops
    from lightning_polycom.benchmarking.growth.work import answers_of, step_of
    from lightning_polycom.benchmarking.stopwatch import Stopwatch

    preset, how = PRESETS[options.sizes], (options.activation, options.precision, options.device)
    if axis == "corpus":
        from data_start_up import TOKENS, open_in_process

        return {n * TOKENS: (1, lambda n=n: open_in_process(n)["first_batch"]) for n in preset.corpus}
    stopwatch = Stopwatch(options.device, REPETITIONS)
    if axis == "questions":
        runs = {n: (n, answers_of(preset.base, *how, n)) for n in preset.questions}
    else:
        shapes = {size: shape_at(preset, axis, size) for size in getattr(preset, axis)}
        runs = {n: (step_flops(shape, options.activation), step_of(shape, *how)) for n, shape in shapes.items()}
    return {n: (work, lambda run=run: stopwatch.seconds(run)) for n, (work, run) in runs.items()}


def measure(axis: str, options: argparse.Namespace) -> Growth:
    """All sizes of an axis in turns."""
    found = turns_of(axis, options)
    choose = median if options.device == "cuda" else min
    seconds = interleaved({size: turn for size, (_, turn) in found.items()}, options.rounds, choose)
    return Growth(axis, tuple(found), tuple(work for work, _ in found.values()), tuple(seconds))


def measure_start_up(rounds: int) -> dict[str, float]:
    """The least seconds of each command, after a run that prepares the text and does not count."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = commands(ROOT, Path(folder))
        for command in chosen.values():
            seconds_of(*command, ROOT)
        return {name: min(seconds_of(*command, ROOT) for _ in range(rounds)) for name, command in chosen.items()}


def main() -> None:
    """Measures axis after axis, prints their tables and a summary, and writes the files."""
    options = parse()
    restart_with_malloc_settings()
    from lightning_polycom.benchmarking.machine import machine_line, machine_record

    machine = machine_record(options.device)
    print(f"{machine_line(machine)}\n{options.sizes} sizes, {options.activation}, {options.precision}", flush=True)
    growths, start_up = [], {}
    for axis in options.axes:
        if axis == "start_up":
            start_up = measure_start_up(options.rounds)
            lines = start_up_lines(start_up)
        else:
            growths.append(measure(axis, options))
            lines = growth_lines(growths[-1])
        print("\n".join(["", *lines]), flush=True)
    if growths:
        print("\n".join(["", *slope_lines(growths)]))
        write_figure(growths, options.output / "scaling.png")
    settings = {name: getattr(options, name) for name in ("sizes", "activation", "precision", "rounds")}
    axes = {growth.axis: growth.record() for growth in growths}
    record = {"machine": machine, "settings": settings, "axes": axes, "start_up_seconds": start_up}
    write_json(options.output / "scaling.json", record)


if __name__ == "__main__":
    main()

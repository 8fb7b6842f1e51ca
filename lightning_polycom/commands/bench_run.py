"""`polycom bench` and `polycom bench --tune`: a run on this machine, and which settings of it are fastest here."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from lightning_polycom.benchmarking.run_options import (
    DEFAULT_CONFIG,
    PARTS,
    PRECISIONS,
    REPETITIONS,
    RunBenchmarkOptions,
)
from lightning_polycom.commands.parsing import one_line_error
from lightning_polycom.errors import InputError

if TYPE_CHECKING:
    from lightning_polycom.commands.fit_settings import FitSettings

DESCRIPTION = f"""\
Measure a run on this machine, and how close each part of it comes to what the machine can do at best. The run is said
as for `polycom fit`, by --config files and --section.key options; default --config {DEFAULT_CONFIG}. Nothing of it is
kept. Text that is not prepared is replaced by random tokens.

With --tune: try precisions, compiled blocks and micro-batches, each in a process of its own, and print the fastest as
options of `polycom fit`.

polycom bench activations --help: the activations alone, of any size.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        one_line_error(self, message)


def main(arguments: list[str]) -> None:
    """Parses the options, measures, prints, and writes the file."""
    own, of_fit = parser().parse_known_args(arguments)
    options = RunBenchmarkOptions(**vars(own))
    if not any(argument.split("=")[0] in ("-c", "--config") for argument in of_fit):
        if not Path(DEFAULT_CONFIG).is_file():
            raise InputError(f"config: none is given, and there is no {DEFAULT_CONFIG} here; name a --config FILE")
        of_fit = ["--config", DEFAULT_CONFIG, *of_fit]
    if options.output is not None:  # a folder that cannot be made is found out before anything is measured
        Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    settings = _settings(of_fit)
    if options.tune:
        _tune(options, settings, of_fit)
    else:
        _bench(options, settings)


def parser() -> argparse.ArgumentParser:
    """The options that `polycom fit` does not have."""
    found = _Parser(
        prog="polycom bench",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    default = f"default {REPETITIONS['cpu']} on a CPU, {REPETITIONS['cuda']} on a GPU"
    found.add_argument("--parts", nargs="+", help=f"What to measure: {', '.join(PARTS)}; default all.")
    found.add_argument("--repetitions", type=int, help=f"Steps, and runs of everything else, that count; {default}.")
    found.add_argument("--output", help="A JSON file for every number.")
    found.add_argument("--tune", action="store_true", help="Try settings of the step, and print the fastest.")
    found.add_argument(
        "--micro_batch_sizes", type=int, nargs="+", help="To try; default those that divide the global batch, doubling."
    )
    found.add_argument("--precisions", nargs="+", help=f"To try; default {' '.join(PRECISIONS)}.")
    found.add_argument("--compiled", nargs="+", help="To try as model.compile; default false true.")
    return found


def _settings(of_fit: list[str]) -> "FitSettings":
    from lightning_polycom.commands.fit import quieten
    from lightning_polycom.commands.fit_settings import FitReader

    quieten()
    return FitReader().read_arguments(of_fit)


def _bench(options: RunBenchmarkOptions, settings: "FitSettings") -> None:
    from rich.console import Console

    from lightning_polycom import atomic
    from lightning_polycom.benchmarking.benched_run import benched_run
    from lightning_polycom.benchmarking.run_benchmark import bench_run
    from lightning_polycom.benchmarking.run_table import lines

    with tempfile.TemporaryDirectory() as folder, Console(stderr=True).status("getting ready") as status:
        run = benched_run(settings.model, settings.data, settings.values["data"], settings.trainer, Path(folder))
        record = bench_run(run, options, lambda what: status.update(f"measuring {what}"))
    print("\n".join(lines(record)))
    if options.output is not None:
        atomic.write_json(options.output, record)
        print(f"\nEvery number is in {options.output}")


def _tune(options: RunBenchmarkOptions, settings: "FitSettings", of_fit: list[str]) -> None:
    from rich.console import Console

    from lightning_polycom import atomic
    from lightning_polycom.benchmarking.tuning import Tuner, tune

    record = tune(Tuner(options, settings.model, settings.data, settings.trainer, of_fit), Console())
    if options.output is not None:
        atomic.write_json(options.output, record)
        print(f"\nEvery number is in {options.output}")

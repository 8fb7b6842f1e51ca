"""`polycom compare`: plan and run arms that differ in what is compared and in nothing else."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from lightning_polycom.commands.parsing import OneLineParser
from lightning_polycom.comparison.config import ComparisonConfig, SlurmConfig
from lightning_polycom.errors import InputError

FAILED = 1


def main() -> None:
    """Prints the plan, runs what is not finished, and prints what became of it; exit code 1 if a run failed."""
    config, dry_run, launcher = read_options(sys.argv[2:])
    from lightning_polycom.comparison.plan import plan_lengths, require_equal
    from lightning_polycom.comparison.record import ComparisonRecord, locked

    console = Console()
    arms, micro_batch_size = read_arms(config)
    record = ComparisonRecord(Path(arms[0].root) / config.name, config)
    show = partial(_print_plan, console, config, record, micro_batch_size)
    measured = record.seconds_per_step if config.equal == "time" and record.seconds_per_step else None
    planned = plan_lengths(config, arms, measured)
    show(planned)
    require_equal(config, planned, measured)
    if dry_run:
        return
    with locked(record.folder) as lock:
        record = ComparisonRecord(record.folder, config)  # as it is now that nobody else writes it
        _run(config, arms, record, launcher, console, lock, show)
    _report(record, console)


def read_options(arguments: list[str]) -> tuple[ComparisonConfig, bool, str]:
    """The comparison, and how it is run."""
    # Interpolations in the arms are those of a run's config, and are resolved there.
    parser = OneLineParser(
        prog="polycom compare",
        parser_mode="yaml",
        description="Train arms that differ in what is compared and in nothing else: "
        "polycom compare configs/comparison/NAME.yaml. Started again, it goes on where it was.",
    )
    parser.add_argument("-c", "--config", action="config", help="The comparison's file; --config may be left out.")
    parser.add_class_arguments(ComparisonConfig, as_group=False)
    parser.add_argument("--dry_run", action="store_true", help="Print the plan, and stop.")
    parser.add_argument(
        "--launcher",
        choices=["here", "slurm"],
        default="here",
        help="One run after the other on this machine, or as jobs of a cluster (the extra 'slurm').",
    )
    if not arguments:
        raise InputError("compare: name a comparison's file, such as configs/comparison/laptop.yaml")
    if not arguments[0].startswith("-"):
        if not Path(arguments[0]).is_file():
            raise InputError(f"compare: no file {arguments[0]}; name a comparison's file")
        arguments = ["--config", *arguments]
    values = parser.parse_args(arguments).as_dict()
    values.pop("config")
    how = values.pop("dry_run"), values.pop("launcher")
    slurm = SlurmConfig(**values.pop("slurm"))
    return ComparisonConfig(**values, slurm=slurm), *how


def read_arms(config: ComparisonConfig) -> tuple[list[Any], int]:
    """The arms with the base's number of steps, and the sequences of a forward pass."""
    from lightning_polycom.commands.fit_settings import FitReader
    from lightning_polycom.comparison.config import SEEDS, nested
    from lightning_polycom.comparison.plan import ArmPlan

    reader, arms, micro_batch_size = FitReader(), [], 1
    seeds = nested(dict.fromkeys(SEEDS, config.seeds[0]))
    for name in config.arms:
        overlay = config.overlay(name)
        for section, values in seeds.items():
            overlay[section] = {**overlay.get(section, {}), **values} if isinstance(values, dict) else values
        try:
            found = reader.read(config.base_files, overlay)
        except InputError as error:
            raise InputError(f"arms.{name}: {error}") from error
        arm = ArmPlan(
            name,
            found.model.decoder_config,
            found.model.schedule_config,
            found.data.sequence_length,
            found.data.tokens_per_step,
            found.steps,
            found.values,
        )
        arms.append(arm)
        micro_batch_size = found.data.micro_batch_size
    return arms, micro_batch_size


def _print_plan(console: Console, config: ComparisonConfig, record: Any, micro_batch_size: int, arms: list) -> None:
    from lightning_polycom.comparison.plan_table import print_plan
    from lightning_polycom.comparison.step_time import estimate

    finished: dict[str, list[Path]] = {}
    for entry in record.entries:
        if entry.status == "finished":
            finished.setdefault(entry.name, []).append(record.run_folder(entry))
    estimates = {arm.name: estimate(arm, micro_batch_size, record.seconds_per_step, finished) for arm in arms}
    print_plan(console, config, arms, estimates)


def _run(
    config: ComparisonConfig, arms: list, record: Any, launcher: str, console: Console, lock: int, show: Any
) -> None:
    from lightning_polycom.callbacks.preemption import EXIT_CODE
    from lightning_polycom.comparison.plan import plan_lengths, require_equal
    from lightning_polycom.comparison.processes import Stopped, stopping
    from lightning_polycom.comparison.settling import PlannedRuns

    try:
        with stopping():
            if config.equal == "time" and record.seconds_per_step.keys() != config.arms.keys():
                _calibrate(config, arms, record, launcher, console, lock)
                planned = plan_lengths(config, arms, record.seconds_per_step)
                show(planned)
            measured = record.seconds_per_step or None
            planned = plan_lengths(config, arms, measured)
            require_equal(config, planned, measured)
            record.keep_plans(planned)
            runs = PlannedRuns(config, planned, record)
            if launcher == "slurm":
                from lightning_polycom.comparison.slurm import run_on_cluster

                run_on_cluster(runs, console)
            else:
                from lightning_polycom.comparison.local import run_here

                run_here(runs, console, lock)
    except Stopped as stop:
        console.print(f"stopped: {stop}; the same command goes on (exit code {EXIT_CODE})", highlight=False)
        sys.exit(EXIT_CODE)
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on")
        raise


def _calibrate(config: ComparisonConfig, arms: list, record: Any, launcher: str, console: Console, lock: int) -> None:
    """Times a step of each arm and keeps the times, so that a comparison that goes on has the same lengths."""
    from lightning_polycom.comparison.calibration import calibrate
    from lightning_polycom.comparison.processes import run_process

    console.print(f"timing {config.calibration_steps} steps of each arm, twice", highlight=False)
    if launcher == "slurm":
        from lightning_polycom.comparison.slurm import run_job

        run = partial(run_job, record.folder / "jobs", config, console)
    else:
        run = partial(run_process, inherited=lock)
    record.seconds_per_step = calibrate(config, arms, record.folder, run)
    record.write()


def _report(record: Any, console: Console) -> None:
    """What became of the runs; exit code 1 if one failed."""
    count = {status: sum(entry.status == status for entry in record.entries) for status in ("finished", "failed")}
    failed = [entry for entry in record.entries if entry.status == "failed"]
    console.print(
        f"{count['finished']} of {len(record.entries)} runs finished, {count['failed']} failed", highlight=False
    )
    for entry in failed:
        console.print(f"  {entry.key}: {entry.error}", highlight=False, soft_wrap=True, markup=False)
    console.print(f"The comparison lies in {record.folder}", highlight=False, soft_wrap=True)
    if failed:
        sys.exit(FAILED)

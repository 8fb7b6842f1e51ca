"""Tries settings of a run's training step on this machine, each in its own process, and finds the fastest."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from lightning_polycom.benchmarking.benched_run import num_devices, quiet_trainer
from lightning_polycom.benchmarking.candidates import (
    Candidate,
    Trial,
    best,
    brings_nothing,
    contenders,
    faster,
    micro_batch_sizes,
)
from lightning_polycom.benchmarking.ceilings import product_kind
from lightning_polycom.benchmarking.machine import machine_line
from lightning_polycom.benchmarking.memory_bound import MemoryBound
from lightning_polycom.benchmarking.run_options import PRECISIONS, RunBenchmarkOptions
from lightning_polycom.benchmarking.trial_process import Failed, bench_in_process, ending_with_parent
from lightning_polycom.benchmarking.tuning_table import HEADING, best_lines, row, share
from lightning_polycom.data.datamodule import TokenDataModule
from lightning_polycom.errors import InputError
from lightning_polycom.training.module import LanguageModel


class Tuner:
    """The candidates of one run, tried one after the other.

    Args:
        options: What to try.
        model: The run's LightningModule.
        data: Its DataModule.
        trainer_options: What its Trainer would be made with.
        of_fit: The run, as options of `polycom fit`.

    Raises:
        InputError: a global batch that the devices do not divide, or a micro-batch that does not divide their shares.
    """

    def __init__(
        self,
        options: RunBenchmarkOptions,
        model: LanguageModel,
        data: TokenDataModule,
        trainer_options: dict[str, Any],
        of_fit: list[str],
    ):
        self.options, self.model, self.data, self.of_fit = options, model, data, of_fit
        self.devices = num_devices(trainer_options)
        self.sequences, rest = divmod(data.global_batch_size, self.devices)
        if rest or not self.sequences:
            raise InputError(
                f"data.global_batch_size: {data.global_batch_size} is no multiple of the {self.devices} devices; "
                "change one of them"
            )
        self.sizes = micro_batch_sizes(self.sequences, data.micro_batch_size, options.micro_batch_sizes)
        trainer = quiet_trainer(trainer_options)
        self.device = trainer.strategy.root_device.type
        self.own = Candidate(str(trainer.precision), model.compiled, data.micro_batch_size)
        self.bound = MemoryBound.of_this_machine() if self.device == "cpu" else None

    @property
    def series(self) -> list[list[Candidate]]:
        """The candidates, those that differ in the micro-batch alone together, ascending."""
        precisions = self.options.precisions or PRECISIONS
        ways = [value == "true" for value in self.options.compiled or ("false", "true")]
        return [[Candidate(p, way, size) for size in self.sizes] for p in precisions for way in ways]

    def trials(self, series: list[Candidate], folder: Path) -> Iterator[Trial]:
        """Tries one series, until one of it fails or larger micro-batches bring nothing."""
        found: list[Trial] = []
        for candidate in series:
            found.append(self._tried(candidate, folder))
            yield found[-1]
            if found[-1].left_out is not None:
                return
            if self.options.micro_batch_sizes is None and brings_nothing(found):
                return

    def again(self, trials: list[Trial], folder: Path) -> Iterator[tuple[int, Trial]]:
        """Tries those a second time that the fastest is hardly faster than; their places in `trials` beside them."""
        for trial in contenders(trials):
            yield trials.index(trial), faster(trial, self._tried(trial.candidate, folder))

    def ceilings(self, folder: Path) -> dict[str, Any]:
        """The record of a measurement of the ceilings alone, in a process that does not stay on the device.

        Raises:
            InputError: it could not be made, for a reason that every candidate would have.
        """
        size = self.own.micro_batch_size if self.own.micro_batch_size in self.sizes else self.sizes[0]
        options = self.own._replace(micro_batch_size=size).options
        try:
            return bench_in_process("ceilings", [*self.of_fit, *options], self.options.repetitions, folder)
        except Failed as error:
            raise InputError(str(error)) from error

    def _tried(self, candidate: Candidate, folder: Path) -> Trial:
        refusal = self.bound and self.bound.refusal(self.model, self.data, candidate, self.sequences)
        if refusal:
            return Trial(candidate, left_out=refusal)
        try:
            options = [*self.of_fit, *candidate.options]
            step = bench_in_process("step", options, self.options.repetitions, folder)["step"]
        except Failed as error:
            return Trial(candidate, left_out=str(error))
        if "left_out" in step:
            return Trial(candidate, left_out="out of memory")
        return Trial(candidate, step["tokens_per_second"], step["flops_per_second"], step["peak_memory_bytes"])


def tune(tuner: Tuner, console: Console) -> dict[str, Any]:
    """Tries everything, prints a line for each candidate and the best one, and returns every number as plain types.

    Raises:
        InputError: nothing could be trained.
    """
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory() as name, ending_with_parent(), Progress(console=console, transient=True) as bar:
        task = bar.add_task("measuring the ceilings", total=sum(len(series) for series in tuner.series))
        measured = tuner.ceilings(Path(name))
        peaks = _peaks(measured, tuner)
        for line in _heading(measured, tuner):
            _say(console, line)
        for series in tuner.series:
            bar.update(task, description=f"{series[0].precision}, {'compiled' if series[0].compiled else 'eager'}")
            tried = []
            for trial in tuner.trials(series, Path(name)):
                tried.append(trial)
                _say(console, row(trial, peaks))
                bar.advance(task)
            bar.advance(task, len(series) - len(tried))
            trials += tried
        bar.update(task, description="the fastest again")
        for place, trial in tuner.again(list(trials), Path(name)):
            trials[place] = trial
            _say(console, f"{row(trial, peaks)}   faster of two")
    fastest = best(trials)
    own = next((trial for trial in trials if trial.candidate == tuner.own), None)
    for line in best_lines(fastest, own):
        _say(console, line)
    return _record(measured, tuner, trials, fastest, peaks)


def _peaks(measured: dict[str, Any], tuner: Tuner) -> dict[str, float]:
    """FLOP/s of the matrix products of each precision."""
    products = measured["ceilings"]["product_flops_per_second"]
    return {precision: products[product_kind(precision, tuner.device)] for precision in PRECISIONS}


def _heading(measured: dict[str, Any], tuner: Tuner) -> list[str]:
    lines = [machine_line(measured["machine"])]
    lines.append(f"text: {measured['run']['text']}; {tuner.sequences} sequences a step on a device")
    if tuner.devices > 1:
        lines.append(
            f"measured on one of {tuner.devices} devices: without what they exchange, and with all weights on it"
        )
    return [*lines, HEADING]


def _record(
    measured: dict[str, Any], tuner: Tuner, trials: list[Trial], fastest: Trial, peaks: dict[str, float]
) -> dict[str, Any]:
    return {
        "machine": measured["machine"],
        "run": measured["run"],
        "ceilings": measured["ceilings"],
        "devices": tuner.devices,
        "trials": [
            {
                **trial.candidate._asdict(),
                "tokens_per_second": trial.tokens_per_second,
                "peak_memory_bytes": trial.peak_memory,
                "share": share(trial, peaks),
                "left_out": trial.left_out,
            }
            for trial in trials
        ],
        "best": {**fastest.candidate._asdict(), "options": fastest.candidate.options},
    }


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)

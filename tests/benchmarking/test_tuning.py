"""What is tried in which order, what ends a series, and what is printed; the processes give invented numbers."""

from pathlib import Path

import pytest
from rich.console import Console

from lightning_polycom.benchmarking import tuning
from lightning_polycom.benchmarking.memory_bound import MemoryBound
from lightning_polycom.benchmarking.run_options import RunBenchmarkOptions
from lightning_polycom.benchmarking.trial_process import Failed
from lightning_polycom.benchmarking.tuning import Tuner, tune
from lightning_polycom.data.datamodule import TokenDataModule
from lightning_polycom.errors import InputError
from lightning_polycom.model import DecoderConfig
from lightning_polycom.training.module import LanguageModel

TRAINER = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "precision": "32-true"}
MACHINE = {
    "device": "cpu", "processor": "a CPU", "vector_instructions": "AVX2", "bf16_instructions": None, "threads": 1,
    "malloc_settings": None, "versions": {"torch": "2"},
}  # fmt: skip
CEILINGS = {
    "machine": MACHINE,
    "run": {"text": "some text"},
    "ceilings": {"product_flops_per_second": {"fp32": 1000.0, "bf16": 4000.0}},
}


class Processes:
    """Stands in for the processes: what they were asked, and speeds by precision, compiled and micro-batch."""

    def __init__(self, speeds: dict[tuple[str, str, int], list]):
        self.speeds, self.asked = speeds, []

    def __call__(self, part: str, of_fit: list[str], repetitions: int | None, folder: Path) -> dict:
        options = dict(zip(of_fit[::2], of_fit[1::2], strict=True))
        size = int(options["--data.micro_batch_size"])
        assert options["--config"] == "run.yaml" and repetitions == 2
        if part == "ceilings":
            return CEILINGS
        key = (options["--trainer.precision"], options["--model.compile"], size)
        self.asked.append(key)
        found = self.speeds.get(key, [10.0])
        found = found.pop(0) if len(found) > 1 else found[0]
        if isinstance(found, Exception):
            raise found
        if found is None:
            return {"step": {"left_out": "out of memory; and so on"}}
        step = {"tokens_per_second": found, "flops_per_second": 10 * found, "peak_memory_bytes": size * 2**30}
        return {"step": step}


@pytest.fixture
def run(monkeypatch, capsys):
    """Tunes a run of 8 sequences a step, in micro-batches of 4; the processes, the record and the lines."""
    model = LanguageModel(DecoderConfig(64, 16, 1, 2, 32), compile=False)
    data = TokenDataModule("nowhere", sequence_length=32, global_batch_size=8, micro_batch_size=4)

    def call(speeds: dict, trainer: dict | None = None, **options):
        processes = Processes(speeds)
        monkeypatch.setattr(tuning, "bench_in_process", processes)
        chosen = RunBenchmarkOptions(tune=True, repetitions=2, **options)
        tuner = Tuner(chosen, model, data, {**TRAINER, **(trainer or {})}, ["--config", "run.yaml"])
        record = tune(tuner, Console())
        return processes.asked, record, capsys.readouterr().out.splitlines()

    return call


def sizes(asked: list, precision: str, compiled: str) -> list[int]:
    return [size for p, c, size in asked if (p, c) == (precision, compiled)]


def test_the_fastest_is_printed_as_options_of_fit(run):
    asked, record, lines = run({("bf16-mixed", "false", 4): [40.0], ("32-true", "false", 4): [20.0]})
    assert sizes(asked, "32-true", "false") == [1, 2, 4, 8]
    # The first three bring nothing over one another, so the series ends.
    assert sizes(asked, "32-true", "true") == sizes(asked, "bf16-mixed", "true") == [1, 2, 4]
    assert record["best"]["micro_batch_size"] == 4 and len(record["trials"]) == 14
    assert lines[-2:] == [
        "best: 40 tokens/s, 2.00 times the run as it is",
        "  --data.micro_batch_size 4 --trainer.precision bf16-mixed --model.compile false",
    ]
    (shares,) = ({t["share"] for t in record["trials"] if t["tokens_per_second"] == speed} for speed in (40.0,))
    assert shares == {400 / 4000}
    assert sum(line.split()[:3] == ["32-true", "no", "4"] and line.endswith("20%") for line in lines) == 1


def test_what_has_no_memory_or_fails_ends_its_series_only(run):
    asked, record, lines = run(
        {("32-true", "false", 2): [None], ("32-true", "true", 1): [Failed("model.compile: no compiler")]},
        precisions=["32-true"],
    )
    assert asked == [("32-true", "false", 1), ("32-true", "false", 2), ("32-true", "true", 1)]
    assert [t["left_out"] for t in record["trials"]] == [None, "out of memory", "model.compile: no compiler"]
    assert sum("left out: out of memory" in line for line in lines) == 1
    assert lines[-2] == "best: 10 tokens/s"  # the run's own was not reached


def test_close_ones_are_tried_again_and_the_faster_time_counts(run):
    asked, record, lines = run(
        {("32-true", "false", 4): [19.5, 30.0], ("32-true", "false", 2): [20.0, 10.0]},
        precisions=["32-true"], compiled=["false"], micro_batch_sizes=[1, 2, 4, 8],
    )  # fmt: skip
    assert sizes(asked, "32-true", "false") == [1, 2, 4, 8, 2, 4]
    assert record["best"]["micro_batch_size"] == 4
    assert [t["tokens_per_second"] for t in record["trials"]] == [10.0, 20.0, 30.0, 10.0]
    assert sum("faster of two" in line for line in lines) == 2
    assert "which the run has already" in lines[-2]


def test_nothing_that_fits_is_a_mistake(run):
    with pytest.raises(InputError, match="nothing that was tried could be trained: out of memory"):
        run({(p, c, 1): [None] for p in ("32-true", "bf16-mixed") for c in ("false", "true")})


def test_a_cpu_tries_nothing_larger_than_its_memory(run, monkeypatch):
    monkeypatch.setattr(MemoryBound, "of_this_machine", classmethod(lambda cls: cls(2**40, 0)))
    monkeypatch.setattr(
        MemoryBound, "refusal", lambda self, model, data, c, n: "needs more" if c.micro_batch_size > 2 else None
    )
    asked, record, _ = run({}, compiled=["false"], precisions=["32-true"], micro_batch_sizes=[1, 2, 4, 8])
    assert asked[:2] == [("32-true", "false", 1), ("32-true", "false", 2)]
    assert [t["left_out"] for t in record["trials"]] == [None, None, "needs more"]


def test_devices_share_the_global_batch(run):
    asked, record, lines = run({}, trainer={"devices": 2}, compiled=["false"], precisions=["32-true"])
    assert record["devices"] == 2 and set(sizes(asked, "32-true", "false")) == {1, 2, 4}
    assert sum("one of 2 devices" in line for line in lines) == 1
    with pytest.raises(InputError, match="8 is no multiple of the 3 devices"):
        run({}, trainer={"devices": 3})

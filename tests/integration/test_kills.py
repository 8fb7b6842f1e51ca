"""Runs that are killed and resumed, with other numbers of processes, train on exactly the stream of one that is not."""

import inspect
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml

from lightning_polycom.data.datamodule import TokenDataModule

ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent
STEPS, INTERVAL, GLOBAL_BATCH = 18, 3, 8


class Start(NamedTuple):
    """One start of a run: its processes and micro-batch, and where it is killed, `<step>:<place>`, or None."""

    world_size: int
    micro_batch_size: int
    kill_at: str | None
    num_workers: int = 0

    @property
    def resumes_at(self) -> int:
        """The step of the checkpoint that this start leaves behind."""
        step, _, place = self.kill_at.partition(":")
        return (int(step) - (place == "save")) // INTERVAL * INTERVAL


@pytest.fixture
def config(tiny_config, tmp_path) -> Path:
    """The tiny run with short sequences, many checkpoints, and a record of what it trains on."""
    values = yaml.safe_load(tiny_config.read_text())
    values["data"] |= {"sequence_length": 16, "global_batch_size": GLOBAL_BATCH, "max_validation_tokens": 64}
    values["trainer"] |= {"max_steps": STEPS, "val_check_interval": STEPS}
    recorder = {"class_path": "stream_recorder.StreamRecorder", "init_args": {"folder": str(tmp_path / "records")}}
    values["trainer"]["callbacks"] = [recorder]
    values["checkpoint"] |= {"every_n_steps": INTERVAL, "asynchronous": False}  # a kill must find it written
    tiny_config.write_text(yaml.safe_dump(values))
    return tiny_config


def run(config: Path, number: int, start: Start, run_folder: Path) -> None:
    """A start as its own processes; it must end by the signal, or well."""
    command = [
        sys.executable, "-m", "lightning_polycom", "fit", "--config", config, "--run.version", run_folder.name,
        "--data.micro_batch_size", start.micro_batch_size, "--trainer.devices", start.world_size,
        *(("--trainer.strategy", "ddp") if start.world_size > 1 else ()),
        *(("--data.num_workers", start.num_workers) if start.num_workers else ()),
        *(("--ckpt_path", run_folder) if number else ()),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE), "RECORD_START": f"start-{number}"}
    if start.kill_at is not None:
        environment["KILL_AT"] = start.kill_at
    found = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment, check=False,
        start_new_session=True,
    )  # fmt: skip
    assert found.returncode == (0 if start.kill_at is None else -signal.SIGKILL), found.stderr[-3000:]


def trained_on(folder: Path) -> dict[int, list[list[int]]]:
    """The windows of each optimizer step of one start, in global order, as its ranks wrote them down."""
    lines: list[dict] = []
    for path in folder.glob("rank-*.jsonl"):
        lines += [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    steps: dict[int, list[list[int]]] = {}
    for line in sorted(lines, key=lambda line: (line["step"], line["part"], line["rank"])):
        steps.setdefault(line["step"], []).extend(line["windows"])
    return steps


def check(polycom, config: Path, tmp_path: Path, starts: list[Start]) -> tuple[Path, Path]:
    """Compares the killed run's stream with that of an uninterrupted one; returns both runs' folders."""
    micro = starts[0].micro_batch_size
    outcome = polycom("fit", "--config", config, "--run.version", "straight", "--data.micro_batch_size", micro)
    assert outcome.code == 0, outcome.err
    straight = trained_on(tmp_path / "records/straight")
    assert list(straight) == list(range(STEPS)) and {len(rows) for rows in straight.values()} == {GLOBAL_BATCH}
    assert len({tuple(row) for rows in straight.values() for row in rows}) == STEPS * GLOBAL_BATCH  # within an epoch

    run_folder, begin, stream = tmp_path / "runs/tiny/killed", 0, []
    for number, start in enumerate(starts):
        run(config, number, start, run_folder)
        steps = trained_on(tmp_path / f"records/start-{number}")
        end = STEPS if start.kill_at is None else start.resumes_at
        assert min(steps) == begin, f"start {number} began elsewhere than at the last checkpoint"
        stream += [row for step in range(begin, end) for row in steps[step]]  # what came after it is trained on again
        begin = end
    assert stream == [row for rows in straight.values() for row in rows]
    return tmp_path / "runs/tiny/straight", run_folder


@pytest.mark.slow
def test_a_killed_run_on_one_then_two_processes(polycom, config, tmp_path):
    workers = 2 if has_workers() else 0
    starts = [Start(1, 4, "8:batch"), Start(2, 2, "12:save", workers), Start(1, 8, None)]
    check(polycom, config, tmp_path, starts)


@pytest.mark.slow
def test_a_run_killed_while_saving_ends_with_the_same_bits(polycom, config, tmp_path):
    starts = [Start(1, 4, "6:save"), Start(1, 4, None)]
    straight, killed = check(polycom, config, tmp_path, starts)
    name = f"checkpoints/step-{STEPS:08d}.ckpt"
    one, other = (torch.load(folder / name, weights_only=True) for folder in (straight, killed))
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())
    moments = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (one, other)]
    assert all(torch.equal(moments[0][n][key], moments[1][n][key]) for n in moments[0] for key in moments[0][n])


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_at_random_steps_on_one_two_and_four_processes(polycom, config, tmp_path, seed):
    rng = random.Random(seed)
    worlds = [*rng.sample([1, 2, 4], 3), rng.choice([1, 2, 4])]
    starts, begin = [], 0
    for world, last in zip(worlds, (8, 12, 16), strict=False):
        # Behind the next checkpoint, so that something is there to resume from and something is lost.
        step = rng.randint(begin + INTERVAL, last)
        place = "save" if step % INTERVAL == 0 and step > begin + INTERVAL else "batch"
        starts.append(Start(world, rng.choice([1, 2]), f"{step}:{place}", rng.randint(0, 2) if has_workers() else 0))
        begin = starts[-1].resumes_at
    check(polycom, config, tmp_path, [*starts, Start(worlds[-1], 2, None)])


def has_workers() -> bool:
    """Whether batches may be read ahead, by processes or threads of their own."""
    return "num_workers" in inspect.signature(TokenDataModule).parameters

"""Runs whose time is up save, exit with a code of their own, and are resumed to the same numbers."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STEPS = 100_000
SHARDED = (
    "--config", "configs/trainer/fsdp.yaml", "--trainer.accelerator", "cpu", "--trainer.devices", "2",
    "--data.micro_batch_size", "2",
)  # fmt: skip

DDP = ("--trainer.strategy", "ddp", "--trainer.devices", "2", "--data.micro_batch_size", "2")


def begin(config: Path, *options: object, **popen: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "lightning_polycom", "fit", "--config", config, "--run.version", "x", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
        **popen,
    )  # fmt: skip


def wait_for_steps(run: Path, process: subprocess.Popen) -> None:
    """Until the run has logged a step."""
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() or "train/loss" not in (run / "metrics.jsonl").read_text():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), signal.SIGTERM),
        (("--trainer.max_time", "00:00:00:01"), None),
        pytest.param(SHARDED, signal.SIGUSR1, marks=pytest.mark.long),
    ],
)
@pytest.mark.slow
def test_a_run_whose_time_is_up_saves_and_goes_on(polycom, tiny_config, tmp_path, options, reason):
    run = tmp_path / "runs/tiny/x"
    long = ("--trainer.max_steps", STEPS, "--checkpoint.every_n_steps", STEPS, "--trainer.val_check_interval", STEPS)
    process = begin(tiny_config, *long, *options)
    if reason is not None:
        wait_for_steps(run, process)
        process.send_signal(reason)  # to one of the processes: the others learn of it
    out, err = process.communicate(timeout=120)
    assert process.returncode == 75, err[-3000:]
    name = reason.name if reason else "trainer.max_time"
    assert f"stopped by {name} at step" in out and "Traceback" not in err
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "stopped" and 0 < record["steps"] < STEPS
    saved = run / f"checkpoints/step-{record['steps']:08d}.ckpt"
    assert saved.is_dir() == bool(reason is signal.SIGUSR1) and saved.exists()
    assert "val/loss" not in (run / "metrics.jsonl").read_text()

    end = record["steps"] + 2
    short = ("--trainer.max_steps", end, "--trainer.log_every_n_steps", 1, "--run.version", "x", "--ckpt_path", "auto")
    outcome = polycom("fit", "--config", tiny_config, *short)
    assert outcome.code == 0 and f"goes on from {saved}" in outcome.out, outcome.err
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line][-2:] == [end - 1, end]


@pytest.mark.parametrize("asynchronous", [True, pytest.param(False, marks=pytest.mark.long)])
@pytest.mark.parametrize("options", [(), *(pytest.param(way, marks=pytest.mark.long) for way in (SHARDED, DDP))])
@pytest.mark.slow
def test_a_full_disk_leaves_the_previous_checkpoint_and_one_line(tiny_config, tmp_path, options, asynchronous):
    values = yaml.safe_load(tiny_config.read_text())
    values["trainer"]["max_steps"] = 4
    tiny_config.write_text(yaml.safe_dump(values))
    first = begin(tiny_config)
    assert first.wait(timeout=120) == 0, first.communicate()
    folder = tmp_path / "runs/tiny/x/checkpoints"
    before = (folder / "step-00000004.ckpt").read_bytes()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # a checkpoint is 690 kB

    more = ("--trainer.max_steps", 40, "--checkpoint.asynchronous", str(asynchronous).lower())
    more = (*more, "--ckpt_path", "auto", *options)
    process = begin(tiny_config, *more, preexec_fn=limit)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, out + err
    assert f"polycom: error: checkpoint: {folder / 'step-00000008.ckpt'} cannot be written" in err
    assert "Traceback" not in err and "no room on the disk, or a limit on the size of files" in err
    assert err.count("polycom: error") == 1
    assert sorted(p.name for p in folder.iterdir()) == ["last.ckpt", "step-00000004.ckpt"]
    assert (folder / "step-00000004.ckpt").read_bytes() == before
    steps = json.loads((folder.parent / "run.json").read_text())["steps"]  # at the latest, the next save finds out
    assert 8 <= steps <= 12 if asynchronous else steps == 8


def test_ctrl_c_is_said_and_has_the_shells_exit_code(polycom, tiny_config, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lightning_polycom.callbacks.coefficients.Coefficients.on_train_batch_end", interrupt)
    outcome = polycom("fit", "--config", tiny_config)
    assert outcome.code == 130 and "fit was interrupted" in outcome.err
    record = json.loads((tmp_path / "runs/tiny/version_0/run.json").read_text())
    assert record["status"] == "KeyboardInterrupt"


def test_no_progress_bar_where_none_is_wanted(polycom, tiny_config):
    outcome = polycom("fit", "--config", tiny_config, "--trainer.enable_progress_bar", "false")
    assert outcome.code == 0 and "step 8/8" not in outcome.out, outcome.err

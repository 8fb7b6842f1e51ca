"""Comparisons of tiny runs on this machine, end to end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightning_polycom.comparison.command import failure_line
from lightning_polycom.comparison.processes import Stopped, run_process, stopping
from lightning_polycom.comparison.record import locked
from lightning_polycom.errors import InputError

ROOT = Path(__file__).parents[2]


def record(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "runs/tiny_arms/comparison.json").read_text())


def statuses(tmp_path: Path) -> list[str]:
    return [entry["status"] for entry in record(tmp_path)["arms"]]


def test_two_arms_and_two_seeds_and_nothing_again(polycom, comparison, tmp_path, runs_in_this_process):
    path = comparison()
    outcome = polycom("compare", path)
    assert outcome.code == 0, outcome.err + outcome.out
    found = record(tmp_path)
    assert (found["name"], found["baseline"], found["equal"]) == ("tiny_arms", "relu", "parameters")
    assert found["arms"][0] == {
        "name": "relu",
        "seed": 1,
        "learning_rate": None,
        "run": "relu/seed-1",
        "status": "finished",
    }
    assert [entry["run"] for entry in found["arms"]] == [
        "relu/seed-1",
        "polynorm/seed-1",
        "relu/seed-2",
        "polynorm/seed-2",
    ]
    folder = tmp_path / "runs/tiny_arms"
    runs = {entry["run"]: json.loads((folder / entry["run"] / "run.json").read_text()) for entry in found["arms"]}
    assert [run["activation"] for run in runs.values()] == ["relu", "polynorm"] * 2
    streams = [run["token_stream"] for run in runs.values()]
    assert streams[0] == streams[1] and streams[2] == streams[3] and streams[0] != streams[2]
    assert len({run["initial_weights_digest"] for run in runs.values()}) == 2
    assert found["plans"]["polynorm"]["num_parameters"] == runs["polynorm/seed-1"]["num_parameters"]
    assert len(runs_in_this_process) == 4 and "4 of 4 runs finished, 0 failed" in outcome.out
    again = polycom("compare", path)
    assert again.code == 0 and len(runs_in_this_process) == 4 and "4 of 4 runs finished" in again.out
    more = polycom("compare", comparison(seeds=[1, 2, 3]))
    assert more.code == 0, more.err
    assert len(runs_in_this_process) == 6 and statuses(tmp_path) == ["finished"] * 6
    assert "by its finished runs" in polycom("compare", comparison(seeds=[1, 2, 3]), "--dry_run").out


@pytest.mark.slow
def test_a_failed_arm_is_reported_and_the_others_go_on(polycom, comparison, tmp_path, runs_in_this_process):
    arms = {
        "relu": {"model.decoder.activation.name": "relu"},
        "broken": {"model.decoder.activation.name": "relu", "evaluation.tasks": ["no_such_task"]},
        "gelu": {"model.decoder.activation.name": "gelu"},
    }
    outcome = polycom("compare", comparison(arms=arms, seeds=[1]))
    assert outcome.code == 1
    assert statuses(tmp_path) == ["finished", "failed", "finished"]
    error = record(tmp_path)["arms"][1]["error"]
    assert "no_such_task" in error and "\n" not in error
    assert f"broken seed-1: {error}" in outcome.out and "2 of 3 runs finished, 1 failed" in outcome.out


@pytest.mark.parametrize("what", ["batches", "weights", "validation", "missing"])
def test_a_run_that_is_not_like_the_others_of_its_seed_fails(
    polycom, comparison, prepared, tmp_path, runs_in_this_process, what
):
    import shutil

    import numpy as np

    shards = tmp_path / "shards"
    shutil.copytree(prepared, shards)
    path = comparison(overrides={"data.folder": str(shards)}, seeds=[1])
    assert polycom("compare", path).code == 0
    folder = tmp_path / "runs/tiny_arms"
    if what == "batches":  # tokens that changed behind the manifest's back
        shutil.rmtree(folder / "polynorm")
        for shard in json.loads((shards / "manifest.json").read_text())["shards"]:
            if shard["split"] == "train":
                tokens = np.memmap(shards / shard["file"], np.uint16, "r+")
                tokens[:] = tokens[::-1].copy()
                tokens.flush()
    else:
        run = json.loads((folder / "polynorm/seed-1/run.json").read_text())
        if what == "weights":
            run["initial_weights_digest"] = "0" * 64
        elif what == "validation":
            run["data_domains"] = run["data_domains"][:-1]
        else:
            del run["token_stream"]
        (folder / "polynorm/seed-1/run.json").write_text(json.dumps(run))
    found = record(tmp_path)
    found["arms"][1]["status"] = "pending"
    (folder / "comparison.json").write_text(json.dumps(found))
    outcome = polycom("compare", path)
    assert outcome.code == 1
    expected = {
        "batches": "saw other batches than relu seed-1, as the hashes of step 4 show",
        "weights": "began with other weights outside the feed-forwards than relu seed-1",
        "validation": "has other training or validation domains than relu seed-1",
        "missing": "shows no hash of its batches",
    }
    assert expected[what] in record(tmp_path)["arms"][1]["error"]


def test_arms_with_other_settings_than_their_runs_are_refused(polycom, comparison, runs_in_this_process):
    assert polycom("compare", comparison(seeds=[1])).code == 0
    outcome = polycom("compare", comparison(seeds=[1], overrides={"model.optimizer.weight_decay": 0.2}))
    assert outcome.code == 2 and len(outcome.err.splitlines()) == 1
    assert "arms.relu" in outcome.err and "other settings" in outcome.err


def test_a_grid_of_learning_rates(polycom, comparison, tmp_path, runs_in_this_process):
    outcome = polycom("compare", comparison(seeds=[1], learning_rates=[0.003, 0.0001]))
    assert outcome.code == 0, outcome.err + outcome.out
    found = [(entry["run"], entry["learning_rate"]) for entry in record(tmp_path)["arms"]]
    assert found == [
        ("relu/seed-1-lr-0.003", 0.003),
        ("polynorm/seed-1-lr-0.003", 0.003),
        ("relu/seed-1-lr-0.0001", 0.0001),
        ("polynorm/seed-1-lr-0.0001", 0.0001),
    ]
    lines = (tmp_path / "runs/tiny_arms/relu/seed-1-lr-0.0001/metrics.jsonl").read_text().splitlines()
    rates = [json.loads(line).get("optim/lr") for line in lines]
    assert max(rate for rate in rates if rate) == pytest.approx(0.0001, rel=0.2)


def test_equal_time_times_the_arms_and_each_ends_its_own_schedule(polycom, comparison, tmp_path, runs_in_this_process):
    options = {"trainer.max_steps": 20, "trainer.val_check_interval": 4}
    path = comparison(seeds=[1], equal="time", tolerance=0.5, calibration_steps=6, overrides=options)
    assert "after timing" in polycom("compare", path, "--dry_run").out
    outcome = polycom("compare", path)
    assert outcome.code == 0, outcome.err + outcome.out
    found = record(tmp_path)
    seconds, plans = found["seconds_per_step"], found["plans"]
    assert set(seconds) == {"relu", "polynorm"} and plans["relu"]["steps"] == 20
    assert plans["polynorm"]["steps"] == round(20 * seconds["relu"] / seconds["polynorm"])
    for entry in found["arms"]:
        lines = (tmp_path / "runs/tiny_arms" / entry["run"] / "metrics.jsonl").read_text().splitlines()
        assert max(json.loads(line)["step"] for line in lines) == plans[entry["name"]]["steps"]
    assert not (tmp_path / "runs/tiny_arms/.calibration").exists()


@pytest.mark.long
def test_ctrl_c_saves_the_run_and_the_same_command_goes_on(polycom, comparison, tmp_path, request):
    options = {"trainer.max_steps": 400, "trainer.val_check_interval": 400, "checkpoint.every_n_steps": 400}
    path = comparison(seeds=[1], overrides=options)
    command = [sys.executable, "-m", "lightning_polycom", "compare", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    metrics = tmp_path / "runs/tiny_arms/relu/seed-1/metrics.jsonl"
    deadline = time.monotonic() + 100
    while not metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    with pytest.raises(InputError, match="is being run by another process"), locked(tmp_path / "runs/tiny_arms"):
        pass
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 130, out
    assert "the same command goes on" in out
    assert statuses(tmp_path) == ["pending", "pending"]
    saved = sorted((metrics.parent / "checkpoints").glob("step-*.ckpt"))
    assert len(saved) == 1 and 0 < int(saved[0].stem[5:]) < 400
    request.getfixturevalue("runs_in_this_process")
    outcome = polycom("compare", path)
    assert outcome.code == 0, outcome.err + outcome.out
    assert "training goes on from" in (metrics.parent.parent / "seed-1.log").read_text()
    assert statuses(tmp_path) == ["finished"] * 2


def test_a_run_that_a_signal_stops_is_pending_and_the_command_says_go_on(polycom, comparison, tmp_path, monkeypatch):
    from lightning_polycom.comparison import local

    monkeypatch.setattr(local, "run_process", lambda *_, **__: 75)
    outcome = polycom("compare", comparison(seeds=[1]))
    assert outcome.code == 75 and "the same command goes on" in outcome.out
    assert statuses(tmp_path) == ["pending", "pending"]


def test_sigterm_reaches_the_process_which_may_end_in_its_own_time(tmp_path):
    program = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(75)))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    log = tmp_path / "log"

    def watch():
        if log.read_text() == "ready\n":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match="SIGTERM"), stopping():
        run_process([sys.executable, "-c", program], log, watch=watch)
    assert log.read_text() == "ready\nsaved\n"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("step 1/2\npolycom: error: no data\n", "no data"),
        ("Traceback\n  File x\nRuntimeError: out of memory\n\n", "exit code 1: RuntimeError: out of memory"),
        ("", "exit code 1: nothing was printed"),
    ],
)
def test_a_failure_is_one_line(output, expected):
    assert failure_line(output, 1) == expected

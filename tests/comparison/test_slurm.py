"""Runs as jobs of a cluster whose commands are told what to answer."""

import json
import os
import shutil
import sys
import time
from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console

pytest.importorskip("submitit", reason="needs submitit, of the extra slurm")

from cluster_commands import ClusterCommands, leave_result

from lightning_polycom.commands.compare import read_arms, read_options
from lightning_polycom.comparison import slurm
from lightning_polycom.comparison.local import run_here
from lightning_polycom.comparison.processes import Stopped
from lightning_polycom.comparison.record import ComparisonRecord
from lightning_polycom.comparison.settling import PlannedRuns
from lightning_polycom.errors import InputError


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    commands = ClusterCommands(tmp_path / "cluster")
    monkeypatch.setenv("PATH", f"{commands.folder}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "RESULT_SECONDS", 0)
    return commands


@pytest.fixture
def start(comparison, tmp_path, monkeypatch):
    """Begins a comparison of two arms and one seed, or goes on with it; what it has printed."""
    monkeypatch.setattr(sys, "argv", ["polycom"])
    config, *_ = read_options([str(comparison(seeds=[1], slurm={"gpus_per_node": 0, "minutes": 60}))])
    planned = read_arms(config)[0]

    def begin(run=slurm.run_on_cluster, **options):
        record = ComparisonRecord(tmp_path / "runs/tiny_arms", config)
        record.keep_plans(planned)
        printed = StringIO()
        try:
            run(PlannedRuns(config, planned, record), Console(file=printed), **options)
        except Stopped as stop:
            printed.write(f"stopped: {stop}")
        return printed.getvalue()

    return begin


def entries(tmp_path):
    return json.loads((tmp_path / "runs/tiny_arms/comparison.json").read_text())["arms"]


def test_a_job_is_over_when_the_queue_says_so_and_not_when_it_has_left_results(cluster, start, tmp_path):
    jobs = tmp_path / "runs/tiny_arms/jobs"
    leave_result(jobs, 1, 75)  # of the start before it was queued again
    leave_result(jobs, 2, 0)
    cluster.answers("1 PENDING, 2 RUNNING", "squeue: error: no answer", "1 RUNNING, 2 COMPLETED", "1 CANCELLED")
    printed = start(poll_seconds=0)
    assert cluster.submitted == 2 and cluster.asked == 4
    assert printed.count("squeue does not answer") == 1
    assert "stopped: the job of relu seed-1 was ended from outside" in printed
    relu, polynorm = entries(tmp_path)
    assert relu["status"] == "pending" and not {"job", "error"} & set(relu)
    assert polynorm["status"] == "failed" and "ended before step 8" in polynorm["error"]


def test_a_failed_job_has_one_line(cluster, start, tmp_path):
    jobs = tmp_path / "runs/tiny_arms/jobs"
    leave_result(jobs, 1, 1)
    (jobs / "1_0_log.err").write_text("polycom: error: no such task\n")
    leave_result(jobs, 2, "Traceback\n  File x\nRuntimeError: no step was saved\n", "error")
    (jobs / "3_0_log.err").write_text("srun: error: bus error\n\n")
    cluster.answers("1 COMPLETED, 2 FAILED", "3 OUT_OF_MEMORY, 4 CANCELLED")
    start(poll_seconds=0)
    expected = ["no such task", "job 2 (FAILED): RuntimeError: no step was saved"]
    assert [entry["error"] for entry in entries(tmp_path)] == expected
    start(poll_seconds=0)  # tries both again, as jobs 3 and 4
    expected = ["job 3 (OUT_OF_MEMORY): srun: error: bus error"]
    expected.append("job 4 (CANCELLED): has left no result; it may never have begun")
    assert [entry["error"] for entry in entries(tmp_path)] == expected


def test_started_again_it_waits_for_the_jobs_it_had_submitted(cluster, start, tmp_path, monkeypatch):
    cluster.answers("1 RUNNING, 2 PENDING")

    def killed(_):
        raise KeyboardInterrupt

    # Not time's own: a process that is waited for uses that one.
    monkeypatch.setattr(slurm, "time", SimpleNamespace(sleep=killed, monotonic=time.monotonic))
    monkeypatch.setattr("submitit.core.core.PicklingExecutor._throttle", lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        start()
    assert [entry["job"] for entry in entries(tmp_path)] == ["1", "2"]
    with pytest.raises(InputError, match="relu seed-1 is job 1 of a cluster"):
        start(run_here)
    path = tmp_path / "runs/tiny_arms/comparison.json"
    found = json.loads(path.read_text())
    del found["arms"][1]["job"]  # killed between the submission and the note of it
    path.write_text(json.dumps(found))
    leave_result(path.parent / "jobs", 1, 1)
    leave_result(path.parent / "jobs", 2, 1)
    cluster.answers("1 RUNNING, 2 RUNNING", "2 COMPLETED")  # the queue has forgotten the first
    printed = start()
    assert cluster.submitted == 2 and printed.count("submitted before") == 2
    assert [entry["status"] for entry in entries(tmp_path)] == ["failed", "failed"]


def test_a_job_that_is_refused_is_one_line_and_its_run_as_before(cluster, polycom, comparison, tmp_path):
    path = comparison(seeds=[1], slurm={"partition": "nowhere"})
    cluster.refuse("sbatch: error: invalid partition specified: nowhere\nsbatch: error: Invalid partition name\n")
    outcome = polycom("compare", path, "--launcher", "slurm")
    assert outcome.code == 2 and len(outcome.err.splitlines()) == 1
    assert "launcher: the cluster refused a job: invalid partition specified: nowhere" in outcome.err
    assert [entry["status"] for entry in entries(tmp_path)] == ["pending", "pending"]


def test_a_job_asks_for_what_it_needs(cluster, start, tmp_path):
    cluster.answers("1 CANCELLED, 2 CANCELLED")
    start(poll_seconds=0)
    script = (tmp_path / "runs/tiny_arms/jobs/1_submission.sh").read_text()
    for line in ("--time=60", "--signal=USR2@600", "--requeue", "--cpus-per-task=8", "--ntasks-per-node=1"):
        assert f"#SBATCH {line}\n" in script
    assert "gpus" not in script and "--cpus-per-task=8 " in next(x for x in script.splitlines() if x[:5] == "srun ")


def test_no_cluster_is_one_line(polycom, comparison, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    outcome = polycom("compare", comparison(seeds=[1]), "--launcher", "slurm")
    assert outcome.code == 2 and "start it on a machine of the cluster" in outcome.err.splitlines()[-1]


def test_time_that_leaves_none_for_a_save_is_refused(polycom, comparison):
    outcome = polycom("compare", comparison(slurm={"minutes": 1}), "--dry_run")
    assert outcome.code == 2 and outcome.err.splitlines()[-1].startswith("polycom: error: slurm.minutes: found 1")

"""A comparison as jobs of the SLURM of this machine, where there is one."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("submitit", reason="needs submitit, of the extra slurm")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def needs_slurm():
    answers = shutil.which("sinfo") and subprocess.run(["sinfo"], capture_output=True, timeout=60).returncode == 0
    if not answers:
        pytest.skip("needs a SLURM: sinfo is missing or does not answer")


def started(path: Path, environment: dict[str, str], output: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "lightning_polycom", "compare", str(path), "--launcher", "slurm"]
    with output.open("w") as file:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)


@pytest.mark.long
def test_jobs_run_and_fail_and_are_not_submitted_again_by_a_second_start(needs_slurm, comparison, tmp_path):
    arms = {name: {"model.decoder.activation.name": name} for name in ("relu", "polynorm")}
    arms["broken"] = {**arms["relu"], "evaluation.tasks": ["no_such_task"]}
    path = comparison(arms=arms, seeds=[1], slurm={"gpus_per_node": 0, "cpus_per_task": 1, "minutes": 30})
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    output, record = tmp_path / "output", tmp_path / "runs/tiny_arms/comparison.json"
    first = started(path, environment, output)
    deadline = time.monotonic() + 600
    while "broken seed-1: job" not in output.read_text() and time.monotonic() < deadline:
        assert first.poll() is None, output.read_text()
        time.sleep(0.1)
    first.kill()
    first.wait()
    jobs = [entry["job"] for entry in json.loads(record.read_text())["arms"]]
    assert len(set(jobs)) == 3
    assert started(path, environment, output).wait() == 1
    assert output.read_text().count("submitted before") == 3
    found = json.loads(record.read_text())["arms"]
    assert [entry["status"] for entry in found] == ["finished", "finished", "failed"]
    assert "no_such_task" in found[2]["error"] and not any("job" in entry for entry in found)
    scripts = {path.name.split("_")[0] for path in (record.parent / "jobs").glob("*_submission.sh")}
    assert scripts == set(jobs)

"""Comparisons as jobs, by submitit's executor for this machine in place of a cluster."""

import json
import sys

import pytest
from rich.console import Console

pytest.importorskip("submitit", reason="needs submitit, of the extra slurm")

from lightning_polycom.commands.compare import read_arms, read_options
from lightning_polycom.comparison.record import ComparisonRecord
from lightning_polycom.comparison.settling import PlannedRuns
from lightning_polycom.comparison.slurm import run_on_cluster


@pytest.mark.long
def test_jobs_run_fail_and_are_not_submitted_again(comparison, tmp_path, monkeypatch):
    arms = {name: {"model.decoder.activation.name": name} for name in ("relu", "polynorm")}
    arms["broken"] = {**arms["relu"], "evaluation.tasks": ["no_such_task"]}
    config, *_ = read_options([str(comparison(arms=arms, seeds=[1], slurm={"gpus_per_node": 0, "minutes": 5}))])
    monkeypatch.setattr(sys, "argv", ["polycom"])
    planned = read_arms(config)[0]
    record = ComparisonRecord(tmp_path / "runs/tiny_arms", config)
    record.keep_plans(planned)
    run_on_cluster(PlannedRuns(config, planned, record), Console(), cluster="local", poll_seconds=0.5)
    found = json.loads(record.path.read_text())["arms"]
    assert [entry["status"] for entry in found] == ["finished", "finished", "failed"]
    assert "no_such_task" in found[2]["error"] and not any("job" in entry for entry in found)

"""Energy of real runs, from counters that move by a known amount."""

import csv
import json
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from fit_on_ranks import fit_on_ranks
from mains import make_zone

from lightning_polycom.training import energy_meters


@pytest.fixture
def powercap(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(energy_meters, "POWERCAP", tmp_path)  # to be put back
    make_zone(tmp_path / "powercap", "intel-rapl:0", "package-0", 41_000_000)
    return tmp_path / "powercap"


@pytest.fixture
def fit(polycom, tiny_config, tmp_path):
    """Runs with energy by `powercap`, and gives what is logged of it by step."""

    def run(version: str, powercap: Path, *options, **mains) -> dict[int, float | None]:
        callback = {"class_path": "mains.Mains", "init_args": {"powercap": str(powercap), **mains}}
        overlay = tmp_path / "mains.yaml"
        overlay.write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
        files = ("--config", tiny_config, "--config", overlay)
        outcome = polycom("fit", *files, "--run.version", version, *options)
        assert outcome.code == 0 and "energy" not in outcome.err, outcome.err
        return logged(tmp_path / "runs/tiny" / version)

    return run


def logged(run: Path) -> dict[int, float | None]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = [(line["step"], line["energy/joules"]) for line in lines if "energy/joules" in line]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.slow
def test_steps_are_counted_from_the_second_and_what_is_between_them_is_not(fit, polycom, powercap, tmp_path):
    # Validation after 4 and 8, the probe after 3 and 6; the wait for data before step 6 is training, and
    # takes the counter around its range between two logged steps.
    gaps = {3: 30.0, 4: 40.0, 5: 47.0, 6: 20.0}
    options = ("--probe.every_n_steps", 3, "--probe.num_tokens", 64, "--checkpoint.every_n_steps", 8)
    found = fit("gaps", powercap, *options, gaps=gaps)
    assert found == pytest.approx({2: 2.0, 4: 6.0, 6: 57.0, 8: 61.0})
    (tmp_path / "other.csv").write_text("arm,seed,step,tokens,val/loss\nother,7,8,2048,6.0\n")
    outcome = polycom("report", tmp_path / "runs/tiny/gaps", tmp_path / "other.csv", "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    with (tmp_path / "out/tables/costs.csv").open() as file:
        energy = {row["arm"]: row["energy (kJ)"] for row in csv.DictReader(file)}
    assert energy["other"] == "" and float(energy["tiny"]) == pytest.approx(0.061)


@pytest.mark.slow
def test_an_evaluation_is_left_out(fit, powercap):
    tasks = ("--evaluation.tasks", '["heldout_continuation"]', "--evaluation.include_path", '["data/tasks"]')
    every = ("--evaluation.every_n_steps", 3, "--evaluation.limit", 1, "--trainer.max_steps", 5)
    assert fit("tasks", powercap, *tasks, *every, gaps={3: 30.0}) == pytest.approx({2: 2.0, 4: 6.0, 5: 8.0})


def test_a_resume_goes_on_from_the_checkpoint(fit, powercap, tmp_path):
    run = tmp_path / "runs/tiny/resumed"
    micro = ("--data.micro_batch_size", 2, "--checkpoint.every_n_steps", 3)
    assert fit("resumed", powercap, *micro, gaps={3: 30.0}) == pytest.approx({2: 4.0, 4: 12.0, 6: 20.0, 8: 28.0})
    # As after a kill: steps 7 and 8 are done again, the first of them uncounted.
    (run / "checkpoints/step-00000008.ckpt").unlink()
    resumed = fit("resumed", powercap, *micro, "--ckpt_path", run)
    assert resumed == pytest.approx({2: 4.0, 4: 12.0, 6: 20.0, 8: 24.0})


@pytest.mark.slow
def test_a_resume_without_meters_ends_it_for_good(fit, powercap, tmp_path):
    longer = ("--ckpt_path", tmp_path / "runs/tiny/gap", "--model.schedule.name", "constant", "--trainer.max_steps")
    assert fit("gap", powercap, *longer[2:], 4) == {2: 2.0, 4: 6.0}
    assert fit("gap", tmp_path / "none", "--trainer.log_every_n_steps", 8, *longer, 6) == {2: 2.0, 4: 6.0, 6: None}
    assert fit("gap", powercap, *longer, 10) == {2: 2.0, 4: 6.0, 6: None}


def test_a_meter_that_fails_leaves_one_null(fit, powercap):
    assert fit("fails", powercap, vanishes=3) == {2: 2.0, 4: None}


@pytest.mark.slow
def test_a_run_without_meters_logs_nothing_and_neither_does_its_continuation(fit, powercap, tmp_path):
    assert fit("bare", tmp_path / "none", "--trainer.max_steps", 4) == {}
    assert fit("bare", powercap, "--ckpt_path", tmp_path / "runs/tiny/bare") == {}


@pytest.mark.long
def test_ranks_of_one_machine_share_its_meter_and_machines_are_added_up(tiny_config, tmp_path, prepared):
    for name in ("shared-0", "own-0", "own-1", "half-0"):
        make_zone(tmp_path / name, "intel-rapl:0", "package-0", 49_000_000)
    starts = []
    nodes = ({"LOCAL_RANK": "0", "NODE_RANK": "{rank}"}, ("--trainer.num_nodes", 2, "--trainer.devices", 1))
    for name, (environment, options) in {"shared": ({}, ()), "own": nodes, "half": nodes}.items():
        callback = {"class_path": "mains.Mains", "init_args": {"powercap": f"{tmp_path}/{name}-{{rank}}"}}
        every = ("--data.micro_batch_size", 2, "--trainer.callbacks", json.dumps([callback]), "--trainer.max_steps", 4)
        starts.append(("ddp", (*every, "--run.version", name, *options), environment))
    codes, said = fit_on_ranks(tmp_path, tiny_config, starts)
    assert codes == [[0, 0]] * 3, said
    found = {name: logged(tmp_path / "runs/tiny" / name) for name in ("shared", "own", "half")}
    assert found["shared"] == pytest.approx({2: 2.0, 4: 6.0})
    assert found["own"] == pytest.approx({2: 2.0 + 4.0, 4: 6.0 + 12.0})
    assert found["half"] == {}

"""`polycom report` from the command line, on real runs and on mistakes."""

import json

import pytest
from synthetic_runs import write_comparison, write_run


def test_real_runs_end_to_end(polycom, tiny_config, tmp_path):
    for name in ("polynorm", "relu"):
        for seed in (1, 2):
            options = ("--run.name", f"{name}_{seed}", "--model.decoder.activation.name", name)
            seeds = ("--seed_everything", seed, "--data.seed", seed)
            assert polycom("fit", "--config", tiny_config, *options, *seeds).code == 0
    runs = [tmp_path / "runs" / f"{name}_{seed}" for name in ("relu", "polynorm") for seed in (1, 2)]
    outcome = polycom("report", *runs, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    first, *_, last = outcome.out.splitlines()
    assert first.startswith("polynorm: ") and "over 2 seeds" in first
    assert last == f"The report is {tmp_path / 'out' / 'report.html'}"
    rows = (tmp_path / "out/tables/runs.csv").read_text().splitlines()
    assert len(rows) == 5 and all("in the means" in row for row in rows[1:])
    losses = {}
    for run in runs:
        lines = (run / "version_0/metrics.jsonl").read_text().splitlines()
        losses[run.name] = [row["val/loss"] for row in map(json.loads, lines) if "val/loss" in row][-1]
    difference = sum(losses[f"polynorm_{seed}"] - losses[f"relu_{seed}"] for seed in (1, 2)) / 2
    cells = (tmp_path / "out/tables/differences.csv").read_text().splitlines()[2].split(",")
    assert float(cells[3]) == pytest.approx(difference, abs=1e-12)
    assert (tmp_path / "out/figures/coefficients-1-polynorm-coefficient-3.svg").is_file()


def test_a_comparison_has_its_report_in_its_folder(polycom, tmp_path):
    folder = write_comparison(tmp_path / "c", {"relu": [4.0, 4.1], "gelu": [3.9, 4.05]}, "gelu")
    outcome = polycom("report", folder)
    assert outcome.code == 0, outcome.err
    assert (folder / "report" / "report.html").is_file()
    assert outcome.out.startswith("relu: ")
    assert polycom("report", folder, "--baseline", "relu").out.startswith("gelu: ")


def test_runs_of_other_code_beside_those_of_this(polycom, tmp_path):
    run = write_run(tmp_path / "relu_1/v0", "relu", 1, 4.0)
    csv = tmp_path / "other.csv"
    csv.write_text("arm,seed,step,tokens,val/a/loss,val/b/loss\ntheirs,1,100,100000,3.9,4.4\n")
    outcome = polycom("report", run, csv, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("theirs: validation loss lower by 0.1000 nats in the one seed")
    assert "note: Of theirs it is not stated on which data it was trained." in outcome.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--baseline", "swigul"], "baseline: 'swigul' is not among the arms (relu, gelu)"),
        (["--equal", "luck"], "equal: found 'luck'"),
        (["--seeds", "[7]"], "seeds: no run has seed 7"),
        (["--seeds", "all"], "seeds"),
        (["--baselin", "relu"], "did you mean 'baseline'"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(polycom, tmp_path, options, message):
    runs = [write_run(tmp_path / f"{arm}_1/v0", arm, 1, 4.0) for arm in ("relu", "gelu")]
    outcome = polycom("report", *runs, "--output", tmp_path / "out", *options)
    assert outcome.code == 2
    assert outcome.err.startswith("polycom: error: ") and outcome.err.strip().count("\n") == 0
    assert message in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"record": {"data_fingerprint": "0" * 64}}, "data: "),
        ({"steps": 50}, "training tokens: "),
        ({"seed": 2}, "seeds: gelu has no run of seed 1, which relu has"),
        ({"status": "running"}, None),
    ],
)
def test_runs_that_do_not_belong_together(polycom, tmp_path, settings, message):
    write_run(tmp_path / "relu/v0", "relu", 1, 4.0)
    write_run(tmp_path / "gelu/v0", "gelu", **{"seed": 1, "final": 4.0, **settings})
    arguments = ("report", tmp_path / "relu", tmp_path / "gelu", "--output", tmp_path / "out")
    outcome = polycom(*arguments)
    if message is None:
        assert outcome.code == 0 and "no pair of finished runs with relu" in outcome.out
        outcome, message = polycom(*arguments, "--baseline", "gelu"), "baseline: no run of gelu is finished (running)"
    assert outcome.code == 2 and message in outcome.err and outcome.err.strip().count("\n") == 0


def test_output_goes_to_no_folder_of_other_files(polycom, tmp_path):
    runs = [write_run(tmp_path / f"{arm}_1/v0", arm, 1, 4.0) for arm in ("relu", "gelu")]
    outcome = polycom("report", *runs, "--output", tmp_path)
    assert outcome.code == 2 and f"output: {tmp_path} is not empty and holds no report" in outcome.err

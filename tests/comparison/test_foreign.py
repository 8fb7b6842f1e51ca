"""Runs of other code, in CSV and JSONL."""

import json

import pytest

from lightning_polycom.comparison.arms import check_arms
from lightning_polycom.comparison.foreign import read_foreign
from lightning_polycom.comparison.results import results_of
from lightning_polycom.errors import InputError

CSV = """arm,seed,step,tokens,seconds,val/c4/loss,val/wiki/loss,num_parameters
swiglu,1,10,100,1,4.0,4.2,1000
swiglu,1,20,200,2,3.5,3.7,
swiglu,1,30,300,3,3.0,3.2,
swiglu,2,30,300,3,3.1,3.3,1000
polynorm,1,10,100,2,3.9,4.1,1000
polynorm,1,20,200,4,3.0,3.2,
polynorm,1,30,300,6,2.9,3.1,
polynorm,2,30,300,6,2.9,3.1,1000
"""


def test_csv_and_jsonl_give_the_same_runs(tmp_path):
    csv, jsonl = tmp_path / "runs.csv", tmp_path / "runs.jsonl"
    csv.write_text(CSV)
    header, *lines = CSV.splitlines()
    rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    typed = [{k: v if k == "arm" else float(v) if "loss" in k else int(v) for k, v in r.items() if v} for r in rows]
    jsonl.write_text("\n".join(map(json.dumps, typed)) + "\n")
    for path in (csv, jsonl):
        runs = read_foreign(path)
        assert [(run.arm, run.seed) for run in runs] == [
            ("swiglu", 1), ("swiglu", 2), ("polynorm", 1), ("polynorm", 2)
        ]  # fmt: skip
        assert all(run.is_usable and run.facts.num_parameters == 1000 and run.tokens == 300 for run in runs)
        baseline, arm = results_of(check_arms(runs, "swiglu", "parameters"))
        assert baseline.final() == pytest.approx([3.1, 3.2])  # val/loss is the mean over domains
        assert arm.difference.values == pytest.approx((-0.1, -0.2))
        assert arm.slowdown.mean == pytest.approx(0.6931, abs=1e-4)  # twice as slow
        assert arm.reach["tokens"].reached == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rows"),
        ("arm,seed,step\nx,1,2\n", "line 2: has no tokens"),
        ("arm,seed,step,tokens,train/loss\nx,one,2,3,4\n", "line 2: seed is 'one'"),
        ("arm,seed,step,tokens,train/loss\nx,1,2,3\n", "line 2: has not as many cells"),
        ("arm,seed,step,tokens,train/loss\nx,1,2,3,4,5\n", "line 2: has not as many cells"),
        ("arm,seed,step,tokens,train/loss\nx,1,2,-3,4\n", "tokens -3"),
        ("arm,seed,step,tokens\nx,1,2,3\n", "x, seed 1 has no loss"),
    ],
)
def test_a_bad_csv_is_refused_by_line(tmp_path, text, message):
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_foreign(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is no JSON"),
        ("[1]", "holds no JSON object"),
        ('{"arm": "x", "seed": 1, "tokens": 3}', "step is None"),
        ('{"arm": 5, "seed": 1, "step": 2, "tokens": 3, "train/loss": 4}', "arm is 5; it must be text"),
        ('{"arm": "x", "seed": true, "step": 2, "tokens": 3, "train/loss": 4}', "seed is True"),
        ('{"arm": "x", "seed": 1, "step": 2, "tokens": 3, "train/loss": "low"}', "train/loss is 'low'"),
        ('{"arm": "x", "seed": 1, "step": 2, "tokens": NaN, "train/loss": 4}', "tokens nan"),
    ],
)
def test_a_bad_line_of_json_is_refused(tmp_path, line, message):
    path = tmp_path / "runs.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match="line 1") as caught:
        read_foreign(path)
    assert message in str(caught.value)


def test_a_status_of_other_code_takes_a_run_out_of_the_means(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("arm,seed,step,tokens,val/loss,status\nx,1,2,3,4,killed\ny,1,2,3,4,\n")
    assert [(run.arm, run.status, run.is_usable) for run in read_foreign(path)] == [
        ("x", "killed", False), ("y", "finished", True)
    ]  # fmt: skip

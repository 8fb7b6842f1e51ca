"""The evaluation section of a run, and the same settings in `polycom evaluate`."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TASKS = ("--evaluation.tasks", '["heldout_continuation"]', "--evaluation.include_path", '["data/tasks"]')


def results(path: Path) -> dict:
    return json.loads(path.read_text())


def test_the_interval_in_tokens_is_rounded_up_to_steps(polycom, tiny_config, tmp_path):
    tokens = ("--evaluation.every_n_tokens", 2 * 4 * 64 + 1, "--evaluation.limit", 2)
    assert polycom("fit", "--config", tiny_config, *TASKS, *tokens).code == 0
    names = sorted(path.name for path in (tmp_path / "runs/tiny/version_0/evals").iterdir())
    assert names == ["step-00000003.json", "step-00000006.json", "step-00000008.json"]
    outcome = polycom("fit", "--config", tiny_config, *TASKS, *tokens, "--evaluation.every_n_steps", 2)
    assert outcome.code == 2 and "every_n_tokens: every_n_steps is set too" in outcome.err


def test_samples_seed_and_metrics_reach_the_results_and_repeat(polycom, tiny_config, tmp_path):
    options = ("--evaluation.log_samples", "true", "--evaluation.seed", 77, "--evaluation.limit", 5)
    chosen = ("--evaluation.metrics", '{"heldout_continuation": "acc"}')
    outcome = polycom("fit", "--config", tiny_config, *TASKS, *options, *chosen)
    assert outcome.code == 0, outcome.err
    assert "as chosen" in outcome.out
    run = tmp_path / "runs/tiny/version_0"
    first = results(run / "evals/step-00000008.json")
    assert first["config"]["fewshot_seed"] == 77 and "samples" not in first
    assert first["polycom"]["metrics"] == {"heldout_continuation": "acc"}
    file = run / "evals/step-00000008/samples_heldout_continuation.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["doc_id"] for row in rows] == list(range(5))
    log_likelihoods = [[float(response[0][0]) for response in row["resps"]] for row in rows]
    correct = [
        max(range(4), key=scores.__getitem__) == int(row["target"])
        for row, scores in zip(rows, log_likelihoods, strict=True)
    ]
    assert first["results"]["heldout_continuation"]["acc,none"] == pytest.approx(sum(correct) / 5)
    assert rows[0]["arguments"]["gen_args_0"]["arg_0"] and rows[0]["acc"] in (0.0, 1.0)
    outcome = polycom("evaluate", run)
    assert outcome.code == 0, outcome.err
    again = results(run / "evals/step-00000008.evaluate.json")
    assert again["results"] == first["results"] and again["config"]["fewshot_seed"] == 77
    assert (run / "evals/step-00000008.evaluate/samples_heldout_continuation.jsonl").read_text() == file.read_text()


def test_evaluate_takes_the_section_of_a_file_and_options_win(polycom, tiny_config, tmp_path):
    assert polycom("fit", "--config", tiny_config, "--trainer.max_steps", 4).code == 0
    run, file = tmp_path / "runs/tiny/version_0", tmp_path / "suite.yaml"
    section = {"tasks": ["heldout_continuation"], "include_path": ["data/tasks"], "limit": 3}
    file.write_text(yaml.safe_dump({"evaluation": section | {"metrics": {"heldout_continuation": "acc"}}}))
    outcome = polycom("evaluate", run, "--config", file, "--limit", 4, "--output", tmp_path / "a.json")
    assert outcome.code == 0, outcome.err
    found = results(tmp_path / "a.json")
    assert found["n-samples"]["heldout_continuation"]["effective"] == 4
    assert found["polycom"]["metrics"] == {"heldout_continuation": "acc"}
    for broken, message in (
        ({"evaluation": section | {"taks": 1}}, "taks"),
        ({"evaluation": section | {"limit": "many"}}, "many"),
        ({"tasks": []}, "no section"),
    ):
        file.write_text(yaml.safe_dump(broken))
        outcome = polycom("evaluate", run, "--config", file)
        assert outcome.code == 2 and message in outcome.err and len(outcome.err.strip().splitlines()) == 1
    outcome = polycom("fit", "--config", tiny_config, *TASKS, "--evaluation.metrics", '{"heldout_continuation": "f1"}')
    assert outcome.code == 2 and "has no metric 'f1'; it reports acc, acc_norm" in outcome.err


def test_a_hub_that_cannot_be_reached_is_seen_in_a_moment():
    code = (
        "import time; from lightning_polycom.evaluation import load_tasks; import datasets, lm_eval.api.task; "
        "start = time.monotonic(); loaded = load_tasks(['arc_easy', 'piqa']); "
        "print(time.monotonic() - start); print(loaded.failed)"
    )
    # Nothing listens on this port; a test must not depend on whether this machine has a network.
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    start = time.monotonic()
    outcome = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    seconds, failed = outcome.stdout.splitlines()
    assert float(seconds) < 8 and time.monotonic() - start < 40
    assert "http://127.0.0.1:9 does not answer" in failed and "piqa" in failed

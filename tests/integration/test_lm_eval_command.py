"""lm-eval's own command line on a checkpoint, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lm_eval(*arguments, folder):
    command = [sys.executable, "-c", "from lightning_polycom.cli import main; main()", "lm_eval", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=dict(os.environ), check=False)


@pytest.mark.slow
def test_it_gives_the_numbers_of_evaluate(polycom, tiny_config, prepared, tmp_path):
    assert polycom("fit", "--config", tiny_config).code == 0
    run = tmp_path / "runs/tiny/version_0"
    tasks = "heldout_continuation,perplexity"
    (tmp_path / "own").mkdir()
    texts = [{"text": path.read_text()[:600]} for path in sorted((ROOT / "docs").glob("*.md"))[:2]]
    (tmp_path / "own/text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    shipped = (ROOT / "data/tasks/heldout_perplexity_library.yaml").read_text()
    own = shipped.replace("tasks/heldout_perplexity_library.jsonl", str(tmp_path / "own/text.jsonl"))
    (tmp_path / "own/perplexity.yaml").write_text(own.replace("heldout_perplexity_library", "perplexity"))
    (tmp_path / "own/continuation.yaml").write_text((ROOT / "data/tasks/heldout_continuation.yaml").read_text())
    options = ("--tasks", tasks, "--include_path", tmp_path / "own")
    assert polycom("evaluate", run, *options, "--output", tmp_path / "ours.json").code == 0
    outcome = lm_eval(
        "run", "--model", "polycom", "--model_args", f"checkpoint={run},precision=fp32,batch_tokens=4096",
        "--device", "cpu", *options, "--output_path", tmp_path / "theirs", folder=prepared,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    (written,) = (tmp_path / "theirs").rglob("results_*.json")
    ours, theirs = (json.loads(path.read_text())["results"] for path in (tmp_path / "ours.json", written))
    assert theirs["heldout_continuation"] == ours["heldout_continuation"]
    for metric in ("bits_per_byte,none", "byte_perplexity,none"):
        assert theirs["perplexity"][metric] == pytest.approx(ours["perplexity"][metric], rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model_args", "checkpoint=nowhere"], "nowhere"),
        pytest.param(
            ["--model_args", "checkpoint=nowhere", "--batch_size", "8"], "batch_tokens", marks=pytest.mark.long
        ),
    ],
)
@pytest.mark.slow
def test_mistakes_are_one_line(arguments, message):
    tasks = ("--tasks", "heldout_continuation", "--include_path", "data/tasks")
    outcome = lm_eval("run", "--model", "polycom", *tasks, *arguments, folder=ROOT)
    assert outcome.returncode == 2 and "Traceback" not in outcome.stderr
    assert message in outcome.stderr.strip().splitlines()[-1]


def test_importing_the_evaluation_package_registers_the_model_without_torch():
    code = (
        "import sys, lightning_polycom.evaluation; from lm_eval.api.registry import model_registry; "
        "assert 'polycom' in model_registry and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

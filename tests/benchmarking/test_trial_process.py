"""What is said of processes that gave no numbers, and what a trial's process leaves behind."""

import json
import signal
import sys

import pytest

from lightning_polycom.benchmarking import trial_process
from lightning_polycom.benchmarking.trial_process import Failed, bench_in_process, failure

PYTHON = sys.executable


@pytest.mark.parametrize(
    ("code", "printed", "expected"),
    [
        (2, "a warning\npolycom: error: model.compile: no compiler\n", "model.compile: no compiler"),
        (1, "Traceback\n  somewhere\nKeyError: 'x'\n\n", "exit code 1: KeyError: 'x'"),
        (1, "", "exit code 1: nothing was printed"),
        (-signal.SIGKILL, "half a line", trial_process.KILLED),
        (-signal.SIGSEGV, "", "ended by SIGSEGV"),
    ],
)
def test_a_failure_is_one_line(code, printed, expected):
    assert failure(code, printed) == expected


@pytest.fixture
def python(tmp_path, monkeypatch):
    """Puts a script in the place of Python, which gets the command's arguments."""

    def put(script: str):
        path = tmp_path / "python"
        path.write_text(f"#!{PYTHON}\nimport sys, json, os, signal\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(trial_process.sys, "executable", str(path))

    return put


def test_the_process_gets_the_run_and_the_part(python, tmp_path):
    python("json.dump(sys.argv[1:], open(sys.argv[sys.argv.index('--output') + 1], 'w'))")
    found = bench_in_process("step", ["--config", "a.yaml"], 3, tmp_path)
    output = str(tmp_path / "bench.json")
    assert found == [
        "-m", "lightning_polycom", "bench", "--config", "a.yaml", "--parts", "step", "--output", output,
        "--repetitions", "3",
    ]  # fmt: skip


def test_numbers_of_an_earlier_process_are_not_taken_for_those_of_one_that_failed(python, tmp_path):
    (tmp_path / "bench.json").write_text(json.dumps({"step": {}}))
    python("print('polycom: error: data: too short', file=sys.stderr); sys.exit(2)")
    with pytest.raises(Failed, match=r"^data: too short$"):
        bench_in_process("step", [], None, tmp_path)
    assert not (tmp_path / "bench.json").exists()
    python("os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(Failed, match="want of memory"):
        bench_in_process("step", [], None, tmp_path)

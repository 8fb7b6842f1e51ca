"""What runs inside a job of a cluster, with the signals that SLURM sends to all of the job's processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("submitit", reason="needs submitit, of the extra slurm")

from lightning_polycom.callbacks.preemption import EXIT_CODE
from lightning_polycom.comparison.fit_job import FRUITLESS_STARTS, SAVED, FitJob

SAVES = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("ready", flush=True)
time.sleep(60)
"""
IS_STUCK = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""
JOB = """
import signal, sys
from lightning_polycom.comparison.fit_job import FitJob
job = FitJob([sys.executable, "-c", sys.argv[1]], "relu/seed-1", float(sys.argv[2]), int(sys.argv[3]))

def notice(*_):
    following = job.checkpoint().function
    print(following.run, following.grace, following.fruitless, flush=True)
    sys.exit(0)

signal.signal(signal.SIGUSR2, notice)
sys.exit(job())
"""


def told(program: str, grace: float, fruitless: int = 0) -> tuple[str, str]:
    """What a job prints whose processes are all told that the time is nearly up."""
    command = [sys.executable, "-c", JOB, program, str(grace), str(fruitless)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    job = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        assert job.stdout.readline() == "ready\n"
        os.killpg(job.pid, signal.SIGUSR2)
        out, err = job.communicate(timeout=30)
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
    return out.strip(), err


def test_a_command_that_is_told_saves_and_is_started_again():
    assert told(SAVES, 30, fruitless=2)[0] == "relu/seed-1 30.0 0"
    assert SAVED == EXIT_CODE


def test_a_command_that_does_not_save_in_time_is_killed_and_started_again_but_not_for_ever():
    assert told(IS_STUCK, 0.1)[0] == "relu/seed-1 0.1 1"
    out, err = told(IS_STUCK, 0.1, FRUITLESS_STARTS - 1)
    assert out == "" and "no step was saved before the time was up, 3 times in a row; raise minutes" in err


def test_a_command_that_ends_gives_its_exit_code_and_stays_queued_if_told_before_it_began():
    assert FitJob([sys.executable, "-c", "raise SystemExit(3)"], "relu/seed-1", 1)() == 3
    assert FitJob([], "relu/seed-1", 1).checkpoint().function.fruitless == 1

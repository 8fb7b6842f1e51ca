import os
import signal
import subprocess
import sys
import time

import pytest

from lightning_polycom.data.preparation import workers
from lightning_polycom.data.preparation.workers import Done, Workers, report
from lightning_polycom.errors import InputError


def square(number):
    report(1, number, 2 * number)
    return number * number, os.getpid()


def fail_at_three(number):
    if number == 3:
        raise InputError("three is not wanted")
    for _ in range(200):
        time.sleep(0.05)
        report(1, 1)


def kill_itself(number):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("num_bytes", [0, 1 << 30])
def test_results_come_in_order_and_are_counted(num_bytes):
    with Workers(2) as crew:
        for _ in range(2):
            results = crew.run(square, range(20), "squaring", num_bytes)
            assert [result for result, _ in results] == [n * n for n in range(20)]
            assert crew.done() == Done(20, 190, 380)
    assert (os.getpid() in {pid for _, pid in results}) == (num_bytes == 0)


def test_one_failure_stops_the_others_soon():
    started = time.monotonic()
    with pytest.raises(InputError, match="three is not wanted"), Workers(2) as crew:
        crew.run(fail_at_three, range(2, 10), "failing", 1 << 30)
    assert time.monotonic() - started < 9  # each of the others would take ten seconds


def test_a_killed_process_is_one_line():
    with pytest.raises(InputError, match="was killed") as caught, Workers(2) as crew:
        crew.run(kill_itself, range(4), "dying", 1 << 30)
    assert "\n" not in str(caught.value)


def test_small_work_starts_no_processes(monkeypatch):
    monkeypatch.setattr(workers, "ProcessPoolExecutor", None)
    with Workers(8) as crew:
        assert crew.run(square, [1, 2], "squaring", 100)[1] == (4, os.getpid())


def test_a_script_needs_no_guard(tmp_path):
    """As many a user's script is: started again in each process, it would start processes again."""
    script = tmp_path / "script.py"
    script.write_text(
        "import math\n"
        "from lightning_polycom.data.preparation.workers import Workers\n"
        "with Workers(2) as crew:\n"
        "    print(crew.run(math.sqrt, [4, 9], 'rooting', 1 << 30), __file__.endswith('script.py'))\n"
    )
    for command in ([sys.executable, str(script)], [sys.executable, "-"]):
        text = script.read_text().replace("__file__.endswith('script.py')", "True")
        result = subprocess.run(command, input=text, capture_output=True, text=True)
        assert result.stdout == "[2.0, 3.0] True\n", result.stderr

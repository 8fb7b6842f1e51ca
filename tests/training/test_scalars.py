import json
import math

from lightning_polycom.training.scalars import MetricsFile


def lines(file: MetricsFile) -> list[dict]:
    return [json.loads(line) for line in file.path.read_text().splitlines()]


def test_lines_are_json_with_the_step(tmp_path):
    file = MetricsFile(tmp_path / "run")
    file.log_metrics({"a/b": 1.5, "c": math.inf, "epoch": 0}, step=3)
    file.log_metrics({"epoch": 0}, step=4)
    (line,) = lines(file)
    assert (line["step"], line["a/b"], line["c"]) == (3, 1.5, None) and "epoch" not in line


def test_a_resumed_run_forgets_what_it_will_write_again(tmp_path):
    file = MetricsFile(tmp_path)
    file.discard_after(5)  # nothing written yet
    for step in range(1, 8):
        file.log_metrics({"x": float(step)}, step=step)
    file.discard_after(4)
    assert [line["step"] for line in lines(file)] == [1, 2, 3, 4]


def test_a_line_torn_by_a_kill_is_dropped(tmp_path):
    file = MetricsFile(tmp_path)
    file.log_metrics({"x": 1.0}, step=1)
    with file.path.open("a") as torn:
        torn.write('{"step": 2, "ti')
    file.discard_after(5)
    assert [line["step"] for line in lines(file)] == [1]

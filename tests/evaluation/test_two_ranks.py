import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from evaluate_on_ranks import evaluate
from tiny_language_model import TinyDecoder

SCRIPT = Path(__file__).with_name("evaluate_on_ranks.py")


def run(world_size: int, folder: Path, tasks: Path) -> list[dict]:
    """What each rank wrote. LOCAL_RANK is set as launchers set it: lm-eval then gives results on rank 0 only."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(world_size), str(folder), str(tasks)],
            env={**os.environ, "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world_size)
    ]
    try:
        for process in processes:
            error = process.communicate(timeout=120)[1]
            assert process.returncode == 0, error[-3000:]
    finally:
        for process in processes:
            process.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world_size)]


def close(left: dict, right: dict) -> bool:
    return all(
        left[task].keys() == metrics.keys()
        and all(
            value == (pytest.approx(left[task][key], rel=1e-5) if isinstance(value, float) else left[task][key])
            for key, value in metrics.items()
        )
        for task, metrics in right.items()
    )


@pytest.mark.slow
def test_two_ranks_give_the_results_of_one_with_equal_numbers_of_forward_passes(data_folder, task_folder):
    alone = evaluate(TinyDecoder(257, 48), data_folder.parent, str(task_folder))
    ranks = run(2, data_folder.parent, task_folder)
    for kind, parameters in (("copies", ["Parameter"]), ("sharded", ["DTensor"])):
        first, second = (rank[kind] for rank in ranks)
        assert first["parameters"] == second["parameters"] == parameters
        assert close(alone["results"], first["results"])
        assert first["results"] == first["again"] == second["results"]
        assert first["calls"] == second["calls"] < alone["calls"]
        assert first["shared"] == second["shared"] == pytest.approx(alone["shared"], abs=1e-4)
        assert first["generated"] == second["generated"] == alone["generated"]
        assert first["failed"] == second["failed"] == ["arc_easy"]
        assert first["training"] and second["training"]
        assert "-elsewhere" in first["error"] and first["error"] == second["error"]
        assert "heldout_continuation.jsonl not found" in first["missing"] and first["missing"] == second["missing"]
    assert all("differ between ranks" in rank["different"] for rank in ranks)

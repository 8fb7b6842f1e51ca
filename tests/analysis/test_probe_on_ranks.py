import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from probe_on_ranks import CASES, build, findings, windows

SCRIPT = Path(__file__).with_name("probe_on_ranks.py")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), "2", str(folder)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            error = process.communicate(timeout=120)[1]
            assert process.returncode == 0, error[-3000:]
    finally:
        for process in processes:
            process.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow
def test_two_ranks_find_what_one_does_and_train_as_without(ranks, name):
    activation, sparse, precision = CASES[name]
    assert len(windows()) % 2 == 1
    alone = findings(build(activation, sparse, None), precision)
    # bf16: the order in which a product is summed shows in the last of 8 bits.
    tolerance = {"rel": 2e-2, "abs": 2e-3} if precision == "bf16-mixed" else {"rel": 1e-4, "abs": 1e-6}
    for rank in ranks:
        probed, without = rank[name]["probed"], rank[name]["alone"]
        assert probed["losses"] == without["losses"] and probed["weights"] == without["weights"]
        assert len(set(probed["losses"])) == len(probed["losses"])
        assert probed["kinds"] == (["Parameter"] if precision is None else ["DTensor"])
        expected, found = numbers(alone), numbers(probed["first"])
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key] == pytest.approx(value, **tolerance), key
    assert ranks[0][name]["probed"]["first"] == ranks[1][name]["probed"]["first"]


def numbers(value: object, prefix: str = "") -> dict[str, float]:
    """Every number of nested findings by its place."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, item in items for k, v in numbers(item, f"{prefix}/{key}").items()}
    return {prefix: value}

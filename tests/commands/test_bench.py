"""`polycom bench`: the table, the file, and mistakes; the numbers themselves are the machine's."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_polycom.benchmarking.malloc_settings import MALLOC

WAYS = ("authors", "reference", "module")


def bench(polycom, *arguments: object):
    return polycom("bench", "activations", "--device", "cpu", "--repetitions", "1", *arguments)


def test_the_table_and_the_file_have_every_activation_and_way(polycom, tmp_path):
    output = tmp_path / "new" / "bench.json"
    outcome = bench(
        polycom, "--size", "8x16", "--rows", 4, "--width", 8, "--dtype", "float32", "bfloat16",
        "--ways", *WAYS, "liger", "--names", "gelu", "polynorm", "polyrelu_glu", "--output", output,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    record = json.loads(output.read_text())
    shapes = [(group["dtype"], group["rows"], group["width"]) for group in record["groups"]]
    assert shapes == [(dtype, *size) for dtype in ("float32", "bfloat16") for size in ((4, 8), (8, 16))]
    expected = [("relu", "module"), ("gelu", "module"), *((n, w) for n in ("polynorm", "polyrelu_glu") for w in WAYS)]
    for group in record["groups"]:
        assert [(row["name"], row["way"]) for row in group["measurements"]] == expected
        assert all(row["seconds"]["both"] > 0 and row["ratio_to_floor"] > 0 for row in group["measurements"])
        assert [(row["name"], row["way"]) for row in group["skipped"]] == [("polynorm", "liger")]
    assert record["machine"]["versions"]["torch"] and record["machine"]["threads"] == 1
    lines = outcome.out.splitlines()
    assert sum(line.startswith("float32, 4 x 8: the floor") for line in lines) == 1
    assert sum(line.startswith("  polynorm ") and "authors' formula" in line for line in lines) == 4
    assert sum("left out: it runs on a GPU only" in line for line in lines) == 4


def test_a_way_that_cannot_be_compiled_is_left_out(polycom, monkeypatch):
    from lightning_polycom.benchmarking import activation_benchmark

    monkeypatch.setattr(activation_benchmark, "missing_compiler", lambda device: "no C++ compiler found")
    outcome = bench(polycom, "--size", "4x8", "--ways", "module_compiled", "--dtype", "float32")
    assert outcome.code == 0 and outcome.out.count("left out: no C++ compiler found") == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "tpu"), "device: found 'tpu'; give auto, cpu, cuda"),
        (("--names", "polynrom"), "unknown activation 'polynrom'; did you mean polynorm"),
        (("--rows", 0, "--width", 8), "rows, width: found 0 x 8"),
        (("--rows", 8), "rows, width: found 1 and 0 numbers"),
        (("--size", "8by8"), "size: found '8by8'; give ROWSxWIDTH"),
        (("--size", "0x8"), "rows, width: found 0 x 8"),
        (("--dtype", "int8"), "dtype: found 'int8'"),
        (("--ways", "modul"), "ways: found 'modul'"),
        (("--repetitions", 0), "repetitions: found 0"),
        (("--output", "."), "output: . is a folder"),
        (("--output", "/proc/nowhere/file"), "/proc/nowhere"),
        (("--sizes", "8x8"), "did you mean 'size'?"),
    ],
)
def test_mistakes_are_one_line(polycom, arguments, message):
    outcome = bench(polycom, *arguments)
    assert outcome.code == 2
    assert message in outcome.err and outcome.err.strip().count("\n") == 0
    assert "floor" not in outcome.out


def test_a_gpu_that_is_not_there_is_one_line(polycom, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    outcome = bench(polycom, "--device", "cuda")
    assert outcome.code == 2 and "device: found no GPU" in outcome.err and outcome.err.strip().count("\n") == 0


def test_help_imports_no_torch():
    code = (
        "import sys; sys.argv = ['polycom', 'bench', 'activations', '--help']\n"
        "from lightning_polycom.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "16384x8256 131072x1536 (GPU)" in " ".join(found.stdout.split())


@pytest.mark.skipif(sys.platform != "linux", reason="the settings are glibc's")
@pytest.mark.parametrize("start", ["module", "console script"])
def test_it_restarts_itself_with_malloc_settings(tmp_path, monkeypatch, start):
    for key in MALLOC:
        monkeypatch.delenv(key, raising=False)
    script = shutil.which("polycom", path=str(Path(sys.executable).parent))
    if start == "console script" and script is None:
        pytest.skip("the console script is not installed beside this Python")
    command = [sys.executable, "-m", "lightning_polycom"] if start == "module" else [script]
    options = "--device cpu --size 4x8 --dtype float32 --names polyrelu --ways module --repetitions 1 --output out.json"
    subprocess.run([*command, "bench", "activations", *options.split()], cwd=tmp_path, check=True, capture_output=True)
    assert json.loads((tmp_path / "out.json").read_text())["machine"]["malloc_settings"] == MALLOC

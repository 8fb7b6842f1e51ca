"""`polycom bench` of a run: every part of it really measured, on a decoder and ceilings of a moment's size."""

import json
import subprocess
import sys

import pytest
import torch

from lightning_polycom.training.module import LanguageModel

PARTS = ("ceilings", "activation", "step", "data", "evaluation")


@pytest.fixture
def small(monkeypatch):
    """Ceilings, questions and a second of data in a few milliseconds."""
    from lightning_polycom.benchmarking import ceilings, data_benchmark, evaluation_benchmark

    monkeypatch.setattr(ceilings, "COPY_BYTES", {"cpu": 2**16})
    monkeypatch.setattr(ceilings, "PRODUCT_SIZES", {"cpu": (32,)})
    monkeypatch.setattr(evaluation_benchmark, "QUESTIONS", {"cpu": 2})
    monkeypatch.setattr(data_benchmark.measure_data, "__defaults__", (0.01,))


def bench(polycom, config, output, *arguments: object):
    outcome = polycom("bench", "--config", config, "--repetitions", 1, "--output", output, *arguments)
    assert outcome.code == 0, outcome.err
    return json.loads(output.read_text()), outcome.out


def test_every_part_stands_beside_its_ceiling(polycom, tiny_config, tmp_path, small):
    record, out = bench(polycom, tiny_config, tmp_path / "new" / "bench.json")
    assert list(record) == ["machine", "run", "repetitions", *PARTS]
    run, step, ceilings = record["run"], record["step"], record["ceilings"]
    assert run["text"].endswith("shards") and run["accumulation"] == 1 and ceilings["kind"] == "fp32"
    peak = ceilings["product_flops_per_second"]["fp32"]
    assert max(row["share"] for row in ceilings["products"]) <= 1
    assert [row["name"] for row in ceilings["products"]] == ["query, output, key, value", "up", "down", "head"]
    assert step["tokens_per_second"] == pytest.approx(4 * 64 / step["seconds"])
    assert step["share"] == pytest.approx(step["tokens_per_second"] * run["flops_per_token"] / peak)
    parts = step["parts"]
    assert list(parts) == ["forward", "backward", "optimizer", "rest"]
    assert sum(part["seconds"] for part in parts.values()) == pytest.approx(step["seconds"], rel=1e-6)
    assert parts["backward"]["share"] == pytest.approx(
        4 * 64 * run["flops_per_token"] * 2 / 3 / parts["backward"]["seconds"] / peak
    )
    moved = 40 * run["parameters"] / parts["optimizer"]["seconds"]
    assert parts["optimizer"]["share"] == pytest.approx(moved / ceilings["copy_bytes_per_second"])
    assert step["peak_memory_bytes"] > 2**26
    taken = step["tokens_per_second"] / record["data"]["tokens_per_second"]
    assert record["data"]["share_taken_by_step"] == pytest.approx(taken)
    assert [row["name"] for row in record["activation"]["measurements"]] == ["relu", "polynorm"]
    assert record["activation"]["rows"] == 4 * 64 and record["activation"]["width"] == 64
    evaluation = record["evaluation"]
    # 4 answers of 16 tokens share a context of 48, and the last token of an answer is read by nobody.
    assert evaluation["asked_tokens_per_second"] > 2 * evaluation["computed_tokens_per_second"]
    for heading in ("Ceilings", "Matrix products", "Activation", "Training step", "Data", "Evaluation"):
        assert sum(line.startswith(heading) for line in out.splitlines()) == 1
    assert not (tmp_path / "runs").exists()  # nothing of the run is kept


def test_random_tokens_stand_in_and_micro_batches_are_counted(polycom, tiny_config, tmp_path, small):
    options = ("--data.folder", tmp_path / "nowhere", "--data.global_batch_size", 8, "--data.micro_batch_size", 1)
    experts = '{"num_experts": 4, "experts_per_token": 2}'
    record, out = bench(
        polycom, tiny_config, tmp_path / "bench.json", "--parts", "step", "data", *options,
        "--data.separate_documents", "true", "--trainer.precision", "bf16-mixed",
        "--model.decoder.activation.name", "swiglu", "--model.decoder.mixture_of_experts", experts,
    )  # fmt: skip
    assert list(record) == ["machine", "run", "repetitions", "step", "data"]
    assert record["run"]["accumulation"] == 8 and record["run"]["measured_micro_batches"] == 2
    assert record["step"]["tokens_per_second"] == pytest.approx(8 * 64 / record["step"]["seconds"])
    assert record["step"]["share"] is None  # without ceilings
    assert "random tokens, because" in record["run"]["text"] and "8 micro-batches a step" in out
    assert not (tmp_path / "nowhere").exists()


def test_a_step_without_memory_leaves_the_rest(polycom, tiny_config, tmp_path, small, monkeypatch):
    def fail(self, *_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(LanguageModel, "training_step", fail)
    record, out = bench(polycom, tiny_config, tmp_path / "bench.json", "--parts", "step", "data")
    assert record["step"] == {"left_out": "out of memory; give a smaller --data.micro_batch_size"}
    assert record["data"]["tokens_per_second"] > 0 and record["data"]["share_taken_by_step"] is None
    assert "Training step: left out: out of memory" in out


def test_a_sharded_run_is_measured_on_one_device_also_in_a_job_of_many_tasks(
    polycom, tiny_config, tmp_path, small, monkeypatch
):
    for name, value in (("SLURM_NTASKS", "8"), ("SLURM_JOB_NAME", "train"), ("SLURM_PROCID", "0")):
        monkeypatch.setenv(name, value)
    strategy = (
        '{"class_path": "lightning_polycom.training.fsdp_strategy.FSDP2Strategy", "init_args": {"replicate_size": 2}}'
    )
    record, _ = bench(
        polycom, tiny_config, tmp_path / "bench.json", "--parts", "step", "--trainer.strategy", strategy,
        "--trainer.devices", 4, "--data.micro_batch_size", 1,
    )  # fmt: skip
    assert record["step"]["tokens_per_second"] > 0 and record["step"]["share"] is None


def test_any_part_without_memory_leaves_the_rest(polycom, tiny_config, tmp_path, small, monkeypatch):
    from lightning_polycom.benchmarking import run_benchmark

    def without_memory(_):
        raise RuntimeError("can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(run_benchmark, "measure_ceilings", without_memory)
    record, out = bench(polycom, tiny_config, tmp_path / "bench.json", "--parts", "ceilings", "step")
    assert "left_out" in record["ceilings"] and record["step"]["share"] is None
    assert "Ceilings: left out: out of memory" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("activatoins",), "bench: found 'activatoins'"),
        (("--parts", "setp"), "parts: found 'setp'; give ceilings, activation"),
        (("--repetitions", 0), "repetitions: found 0"),
        (("--output", "."), "output: . is a folder"),
        (("--tune", "--parts", "step"), "parts: does not go with --tune"),
        (("--precisions", "32-true"), "precisions: is for --tune"),
        (("--tune", "--precisions", "16-mixed"), "precisions: found '16-mixed'; give 32-true, bf16-mixed"),
        (("--tune", "--compiled", "yes"), "compiled: found 'yes'"),
        (("--tune", "--micro_batch_sizes", 4, 0), "micro_batch_sizes: found 0"),
        (("--data.micro_bath_size", 3), "micro_bath_size"),
        (("--data.micro_batch_size", 3), "data.global_batch_size: 16 is no multiple"),
        (("--trainer.accelerator", "gpu"), "trainer: "),
        (("--tune", "--micro_batch_sizes", 3), "micro_batch_sizes: 3 does not divide the 16 sequences"),
    ],
)
def test_mistakes_are_one_line(polycom, arguments, message):
    outcome = polycom("bench", *arguments)
    assert outcome.code == 2
    assert message in outcome.err and outcome.err.strip().count("\n") == 0
    assert "Ceilings" not in outcome.out


def test_without_a_config_the_quickstart_has_to_be_there(polycom, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    outcome = polycom("bench")
    assert outcome.code == 2 and "config: none is given" in outcome.err


def test_help_imports_no_torch():
    code = (
        "import sys; sys.argv = ['polycom', 'bench', '--help']\n"
        "from lightning_polycom.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--tune" in found.stdout and "polycom bench activations --help" in found.stdout


@pytest.mark.slow
def test_a_run_is_tuned_in_real_processes(polycom, tiny_config, tmp_path):
    output = tmp_path / "tune.json"
    outcome = polycom(
        "bench", "--tune", "--config", tiny_config, "--repetitions", 1, "--output", output,
        "--micro_batch_sizes", 2, "--precisions", "32-true", "--compiled", "false",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    record = json.loads(output.read_text())
    (trial,) = record["trials"]
    assert trial["tokens_per_second"] > 0 and trial["peak_memory_bytes"] > 2**26 and 0 < trial["share"] < 1
    options = "--data.micro_batch_size 2 --trainer.precision 32-true --model.compile false"
    assert f"  {options}" in outcome.out.splitlines()
    assert record["best"]["options"] == options.split()

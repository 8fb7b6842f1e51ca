"""Runs with a probe are the runs without, and its files are there at every interval."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).parents[2]
PROBE = ("--probe.every_n_steps", 3, "--probe.num_tokens", 1000)
TRAINED = ("train/loss", "optim/grad_norm", "val/loss", "val/code/loss", "activation/1/coefficient_3")


def values(run: Path, tag: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[tag] for line in lines if tag in line}


def probes(run: Path) -> dict[int, dict]:
    found = [json.loads(path.read_text()) for path in sorted((run / "probes").glob("analysis-step-*.json"))]
    assert [path.name for path in sorted((run / "probes").iterdir())] == [
        f"analysis-step-{probe['step']:08d}.json" for probe in found
    ]
    return {probe["step"]: probe for probe in found}


def test_a_probed_run_trains_bit_for_bit_as_without(polycom, tiny_config, tmp_path):
    # Two micro-batches a step: the probe must come once a step.
    options = ("--data.micro_batch_size", 2, "--trainer.log_every_n_steps", 1)
    assert polycom("fit", "--config", tiny_config, "--run.version", "without", *options).code == 0
    outcome = polycom("fit", "--config", tiny_config, "--run.version", "with", *options, *PROBE)
    assert outcome.code == 0, outcome.err
    runs = tmp_path / "runs/tiny"
    for tag in TRAINED:
        assert values(runs / "with", tag) == values(runs / "without", tag) != {}, tag
    assert not (runs / "without/probes").exists()

    found = probes(runs / "with")
    assert list(found) == [3, 6, 8]  # the interval, and the end
    for probe in found.values():
        assert probe["num_tokens"] == 1024  # 500 of each of two domains, in windows of 64
        assert len(probe["layer_similarity"]) == len(probe["layer_similarity"][0]) == 3
        assert [len(probe["effective_rank"][name]) for name in ("up", "down")] == [2, 2]
        assert [entry["layer"] for entry in probe["activation_statistics"]] == [0, 1]
        assert {"zero_fraction", "kurtosis", "quantiles", "max_abs", "overflow_headroom_bits"} <= set(
            probe["activation_statistics"][1]["output"]
        )
    assert found[3]["effective_rank"] != found[8]["effective_rank"]
    ranks = values(runs / "with", "analysis/1/effective_rank_up")
    assert ranks == {step: probe["effective_rank"]["up"][1] for step, probe in found.items()}
    events = EventAccumulator(str(runs / "with/tb"), size_guidance={"images": 0})
    events.Reload()
    for picture in ("effective_rank", "layer_similarity", "activation_statistics", "coefficients"):
        assert [event.step for event in events.Images(f"analysis/{picture}")] == [3, 6, 8]
    assert [event.step for event in events.Scalars("analysis/0/input_kurtosis")] == [3, 6, 8]


def test_a_resumed_run_does_not_probe_its_first_step_again(polycom, tiny_config, tmp_path):
    run = tmp_path / "runs/tiny/version_0"
    assert polycom("fit", "--config", tiny_config, *PROBE, "--trainer.max_steps", 6).code == 0
    written = (run / "probes/analysis-step-00000006.json").stat().st_mtime_ns
    assert polycom("fit", "--config", tiny_config, *PROBE, "--ckpt_path", run).code == 0
    assert list(probes(run)) == [3, 6, 8]
    assert (run / "probes/analysis-step-00000006.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--probe.every_n_steps", 0), "probe.every_n_steps: found 0; it must be at least 1"),
        (("--probe.num_tokens", -5), "probe.num_tokens: found -5"),
        (("--probe.every_step", 5), "probe.every_n_steps"),
    ],
)
def test_mistakes_are_one_line(polycom, tiny_config, options, message):
    outcome = polycom("fit", "--config", tiny_config, *options)
    assert outcome.code == 2 and message in outcome.err.splitlines()[-1]


def test_no_validation_text_is_one_line_before_training(polycom, tiny_config, prepared, tmp_path):
    shards = sorted((prepared / "train").rglob("*.bin")) or sorted((prepared / "train").rglob("*.npy"))
    outcome = polycom(
        "fit", "--config", tiny_config, *PROBE, "--data.folder", "null", "--data.train", shards[0],
        "--data.tokenizer", prepared / "tokenizer.json", "--data.dtype", "uint16",
    )  # fmt: skip
    assert outcome.code == 2 and "data: no validation domain to read" in outcome.err.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


DDP = pytest.param(("--trainer.strategy", "ddp"), marks=pytest.mark.long)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [DDP, ("--config", "configs/trainer/fsdp.yaml")])
def test_on_two_processes(tiny_config, tmp_path, strategy):
    for version, options in (("without", ()), ("with", PROBE)):
        command = [
            sys.executable, "-m", "lightning_polycom", "fit", "--config", tiny_config, *strategy,
            "--trainer.accelerator", "cpu", "--trainer.devices", 2, "--data.micro_batch_size", 1,
            "--run.version", version, *options,
        ]  # fmt: skip
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=300, cwd=ROOT, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    runs = tmp_path / "runs/tiny"
    for tag in TRAINED:
        assert values(runs / "with", tag) == values(runs / "without", tag) != {}, tag
    found = probes(runs / "with")
    assert list(found) == [3, 6, 8] and found[8]["num_tokens"] == 1024

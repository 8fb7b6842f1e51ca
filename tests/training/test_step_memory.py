"""The memory that a training step is said to need, against the live tensors of real steps of `polycom fit`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.model import DecoderConfig
from lightning_polycom.training.step_memory import StepShape, count_step_memory

ROOT = Path(__file__).parents[2]
SIZES = {"hidden_size": 256, "num_layers": 4, "num_heads": 4, "intermediate_size": 1024, "max_sequence_length": 256}
WHOLE, CHUNKED = 8192, 32768  # vocabularies with which the logits of 1,024 tokens are held whole, and are not
# Activation, vocabulary, the decoder's other settings, the step's settings.
CASES = {
    "polynorm": ("polynorm", WHOLE, {}, {}),
    "polynorm bf16": ("polynorm", WHOLE, {}, {"precision": "bf16-mixed"}),
    "swiglu full accumulated": (
        "swiglu", WHOLE, {}, {"activation_checkpointing": "full", "accumulation": 2},
    ),
    "polynorm full bf16 accumulated chunked": (
        "polynorm", CHUNKED, {},
        {"activation_checkpointing": "full", "accumulation": 2, "precision": "bf16-mixed"},
    ),
    "swiglu chunked z-loss bf16": ("swiglu", CHUNKED, {}, {"precision": "bf16-mixed", "z_loss_weight": 1e-4}),
    "polynorm every second, recomputed, tied": (
        "polynorm", WHOLE, {"recompute_activation": True, "tie_embeddings": True}, {"activation_checkpointing": 2},
    ),
    "swiglu selective, documents, grouped": (
        "swiglu", WHOLE, {"num_key_value_heads": 2},
        {"activation_checkpointing": "selective", "separate_documents": True},
    ),
    "polynorm ddp": ("polynorm", WHOLE, {}, {"gradient_buckets": True}),
    "polynorm sharded": ("polynorm", WHOLE, {}, {"sharded_over": 2}),
    "swiglu sharded bf16 full accumulated": (
        "swiglu", WHOLE, {},
        {"sharded_over": 2, "precision": "bf16-mixed", "activation_checkpointing": "full", "accumulation": 2},
    ),
    "polynorm sharded bf16 chunked": ("polynorm", CHUNKED, {}, {"sharded_over": 2, "precision": "bf16-mixed"}),
}  # fmt: skip


def measured(config: Path, folder: Path, decoder: dict, step: StepShape) -> list[int]:
    """The peak of each rank of a run of four steps."""
    ranks = 2 if step.sharded_over or step.gradient_buckets else 1
    recorder = {"class_path": "live_bytes_recorder.LiveBytesRecorder", "init_args": {"folder": str(folder)}}
    overlay = ["--config", f"configs/trainer/{'fsdp' if step.sharded_over else 'ddp'}.yaml"] if ranks > 1 else []
    settings = {
        **{f"model.decoder.{name}": value for name, value in decoder.items()},
        "model.activation_checkpointing": step.activation_checkpointing, "model.z_loss_weight": step.z_loss_weight,
        "data.sequence_length": step.sequence_length, "data.micro_batch_size": step.micro_batch_size,
        "data.global_batch_size": step.micro_batch_size * ranks * step.accumulation,
        "data.separate_documents": step.separate_documents,
        "trainer.precision": step.precision, "trainer.callbacks": json.dumps([recorder]), "trainer.max_steps": 4,
        "trainer.devices": ranks, "trainer.limit_val_batches": 0, "trainer.accelerator": "cpu",
    }  # fmt: skip
    options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "lightning_polycom", "fit", "--config", str(config), *overlay, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), environment.get("PYTHONPATH", "")])
    found = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment, check=False
    )
    assert found.returncode == 0, found.stderr[-3000:]
    return [int((folder / f"rank-{rank}").read_text()) for rank in range(ranks)]


@pytest.mark.parametrize("name", CASES)
def test_the_counted_peak_is_that_of_a_real_run(tiny_config, tmp_path, name):
    activation, vocabulary, decoder, step = CASES[name]
    sizes, shape = {**SIZES, **decoder, "vocab_size": vocabulary}, StepShape(4, 256, **step)
    expected = count_step_memory(DecoderConfig(**sizes, activation=ActivationConfig(activation)), shape)
    assert sum(expected.parts.values()) == expected.peak
    peaks = measured(tiny_config, tmp_path, {**sizes, "activation.name": activation}, shape)
    print(name, expected.peak / 2**20, [p / 2**20 for p in peaks], [round(expected.peak / p - 1, 4) for p in peaks],
          {k: round(v / 2**20, 2) for k, v in expected.parts.items()})
    for peak in peaks:
        assert peak == pytest.approx(expected.peak, rel=0.05)

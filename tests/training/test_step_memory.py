"""The memory that a training step is said to need, against the live tensors of real steps of `polycom fit`."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from lightning_polycom.activations import Activation, ActivationConfig
from lightning_polycom.model import DecoderConfig
from lightning_polycom.model.mixture_of_experts import MixtureOfExpertsConfig
from lightning_polycom.training import step_memory
from lightning_polycom.training.step_memory import KINDS, StepShape, count_step_memory

ROOT = Path(__file__).parents[2]
SIZES = {"hidden_size": 256, "num_layers": 4, "num_heads": 4, "intermediate_size": 1024, "max_sequence_length": 256}
WHOLE, CHUNKED = 8192, 32768  # vocabularies with which the logits of 1,024 tokens are held whole, and are not
FULL, BF16 = {"activation_checkpointing": "full"}, {"precision": "bf16-mixed"}
# Activation, vocabulary, the decoder's other settings, the step's settings.
CASES = {
    "polynorm": ("polynorm", WHOLE, {}, {}),
    "polynorm full bf16 accumulated chunked": ("polynorm", CHUNKED, {}, {**FULL, **BF16, "accumulation": 2}),
    "swiglu selective, documents, grouped": (
        "swiglu", WHOLE, {"num_key_value_heads": 2},
        {"activation_checkpointing": "selective", "separate_documents": True},
    ),
}  # fmt: skip
MORE_CASES = {
    "polynorm bf16": ("polynorm", WHOLE, {}, BF16),
    "swiglu full accumulated": ("swiglu", WHOLE, {}, {**FULL, "accumulation": 2}),
    "swiglu chunked z-loss bf16": ("swiglu", CHUNKED, {}, {**BF16, "z_loss_weight": 1e-4}),
    "polynorm every second, recomputed, tied": (
        "polynorm", WHOLE, {"recompute_activation": True, "tie_embeddings": True}, {"activation_checkpointing": 2},
    ),
    "polynorm sparse bf16": (
        "polynorm", WHOLE, {"mixture_of_experts": {"num_experts": 8, "experts_per_token": 2}, "intermediate_size": 512},
        BF16,
    ),
    "swiglu tied bf16 accumulated": ("swiglu", WHOLE, {"tie_embeddings": True}, {**BF16, "accumulation": 2}),
}  # fmt: skip
SHARDED = {
    "sharded bf16 full accumulated": ("swiglu", WHOLE, {}, {"sharded_over": 2, **BF16, **FULL, "accumulation": 2}),
}
MORE_SHARDED = {
    "sharded": ("polynorm", WHOLE, {}, {"sharded_over": 2}),
    "sharded bf16 chunked": ("polynorm", CHUNKED, {}, {"sharded_over": 2, **BF16}),
    "ddp": ("polynorm", WHOLE, {}, {"gradient_buckets": True}),
}


class ReadsValues(Activation):
    """An activation of which nothing can be counted without values."""

    def forward(self, x):
        return x * x.abs().max().item()


def cases(usual: dict, rare: dict, usual_mark: Any = ()) -> list:
    named = [(name, case, usual_mark) for name, case in usual.items()]
    named += [(name, case, pytest.mark.long) for name, case in rare.items()]
    return [pytest.param(*case, id=name, marks=marks) for name, case, marks in named]


def counted(activation: str, vocabulary: int, decoder: dict, step: dict, micro_batch_size: int = 4):
    sizes = {**SIZES, **decoder}
    if "mixture_of_experts" in sizes:
        sizes["mixture_of_experts"] = MixtureOfExpertsConfig(**sizes["mixture_of_experts"])
    config = DecoderConfig(vocabulary, **sizes, activation=ActivationConfig(activation))
    return count_step_memory(config, StepShape(micro_batch_size, 256, **step))


def options(folder: Path, ranks: int, activation: str, vocabulary: int, decoder: dict, step: dict) -> list[str]:
    """What makes of the tiny run one of the given settings whose peak is recorded."""
    step = StepShape(4, 256, **step)
    recorder = {"class_path": "live_bytes_recorder.LiveBytesRecorder", "init_args": {"folder": str(folder)}}
    settings = {
        **{f"model.decoder.{name}": value for name, value in {**SIZES, **decoder}.items()},
        "model.decoder.vocab_size": vocabulary, "model.decoder.activation.name": activation,
        "model.activation_checkpointing": step.activation_checkpointing, "model.z_loss_weight": step.z_loss_weight,
        "data.sequence_length": step.sequence_length, "data.micro_batch_size": step.micro_batch_size,
        "data.global_batch_size": step.micro_batch_size * ranks * step.accumulation,
        "data.separate_documents": step.separate_documents,
        "trainer.precision": step.precision, "trainer.callbacks": json.dumps([recorder]), "trainer.max_steps": 3,
        "trainer.devices": ranks, "trainer.limit_val_batches": 0, "trainer.accelerator": "cpu",
    }  # fmt: skip
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


@pytest.mark.parametrize(("activation", "vocabulary", "decoder", "step"), cases(CASES, MORE_CASES))
def test_the_counted_peak_is_that_of_a_run(polycom, tiny_config, tmp_path, activation, vocabulary, decoder, step):
    case = (activation, vocabulary, decoder, step)
    outcome = polycom("fit", "--config", tiny_config, *options(tmp_path, 1, *case))
    assert outcome.code == 0, outcome.err
    assert int((tmp_path / "rank-0").read_text()) == pytest.approx(counted(*case).peak, rel=0.01)


@pytest.mark.parametrize(
    ("activation", "vocabulary", "decoder", "step"), cases(SHARDED, MORE_SHARDED, pytest.mark.long)
)
def test_the_counted_peak_is_that_of_each_of_two_ranks(tiny_config, tmp_path, activation, vocabulary, decoder, step):
    case = (activation, vocabulary, decoder, step)
    overlay = ROOT / f"configs/trainer/{'fsdp' if 'sharded_over' in step else 'ddp'}.yaml"
    command = [sys.executable, "-m", "lightning_polycom", "fit", "--config", tiny_config, "--config", overlay]
    path = os.pathsep.join([str(Path(__file__).parent), str(ROOT), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [*map(str, command), *options(tmp_path, 2, *case)],
        capture_output=True, text=True, timeout=300, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
    for rank in range(2):  # gloo sums gradients in a copy of them, which is no part of training
        assert int((tmp_path / f"rank-{rank}").read_text()) == pytest.approx(counted(*case).peak, rel=0.1)


def test_the_parts_are_what_they_say():
    found = counted("polynorm", WHOLE, {}, {"accumulation": 2, "gradient_buckets": True})
    weights = 4 * DecoderConfig(WHOLE, **SIZES, activation=ActivationConfig("polynorm")).num_parameters
    assert list(found.parts) == [kind for kind in KINDS if kind in found.parts]
    assert sum(found.parts.values()) == found.peak
    # A few bytes more: Adam counts its steps in a tensor for each parameter.
    assert [found.parts[kind] for kind in ("weights", "gradients", "DDP's buckets")] == [weights] * 3
    assert 0 <= found.parts["optimizer moments"] - 2 * weights < 1000
    bf16 = counted("polynorm", CHUNKED, {}, {"precision": "bf16-mixed"}).parts
    matrices = DecoderConfig(CHUNKED, **SIZES, activation=ActivationConfig("polynorm")).num_active_matrix_parameters
    assert bf16["weight copies"] == 2 * matrices


def test_a_few_turns_of_a_loop_stand_for_all(monkeypatch):
    case = ("polynorm_glu", CHUNKED, {"num_layers": 1}, {"precision": "bf16-mixed"})
    abridged = counted(*case).peak
    monkeypatch.setattr(step_memory, "abridged_loops", nullcontext)
    assert counted(*case).peak == pytest.approx(abridged, rel=1e-4)


def test_memory_is_saved_by_what_is_meant_to_save_it():
    usual = counted("polynorm", WHOLE, {}, {}, 16).peak
    assert counted("polynorm", WHOLE, {}, FULL, 16).peak < 0.7 * usual
    assert counted("polynorm", WHOLE, {}, {"activation_checkpointing": "selective"}, 16).peak < 0.9 * usual
    assert counted("polynorm", WHOLE, {"recompute_activation": True}, {}, 16).peak < usual
    assert counted("polynorm", WHOLE, {}, {}, 4).peak < 0.7 * usual


def test_sharding_divides_the_state_and_copies_do_not():
    def state(**step):
        parts = counted("polynorm", WHOLE, {}, step).parts
        return parts["weights"] + parts["optimizer moments"]

    assert state(sharded_over=8) == pytest.approx(state() / 8, rel=0.01)
    assert state(sharded_over=4, replicate_size=2) == pytest.approx(state() / 4, rel=0.01)


def test_the_dry_run_prints_the_peak_and_its_parts(polycom, tiny_config, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    outcome = polycom("fit", "--config", tiny_config, "--dry_run")
    assert outcome.code == 0 and "0.00 GiB of tensors (weights 0.00" in outcome.out, outcome.err
    overlay = ("--config", ROOT / "configs/trainer/fsdp.yaml", "--trainer.devices", 2, "--data.micro_batch_size", 2)
    sharded = polycom("fit", "--config", tiny_config, *overlay, "--model.compile", "true", "--dry_run")
    assert sharded.code == 0 and "at most 0.00 GiB of tensors" in sharded.out, sharded.err
    wrong = ("--trainer.strategy.init_args.replicate_size", 3)
    refused = polycom("fit", "--config", tiny_config, *overlay, *wrong, "--dry_run")
    assert refused.code == 2 and "replicate_size: 3 does not divide" in refused.err


def test_the_dry_run_says_where_it_cannot_count(polycom, tiny_config, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    own = ("--model.decoder.activation.name", f"{__name__}.ReadsValues")
    outcome = polycom("fit", "--config", tiny_config, *own, "--dry_run")
    assert outcome.code == 0 and "not known before a run: the decoder needs values (aten." in outcome.out, outcome.err

"""Runs with random weights, exported, for the tests of this room."""

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

# Before transformers is imported: the modeling files of the exports are copied there.
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="polycom-modules-")

import pytest
import torch
import yaml

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.initialization import initialize


def tiny(activation: str | ActivationConfig = "polynorm", **options) -> DecoderConfig:
    """A decoder of two layers and four heads."""
    if isinstance(activation, str):
        activation = ActivationConfig(activation)
    sizes = {"vocab_size": 600, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 48}
    return DecoderConfig(**{**sizes, "max_sequence_length": 64, **options}, activation=activation)


def randomised(config: DecoderConfig) -> Decoder:
    """Every parameter away from its start, so that one left out or swapped shows."""
    decoder = Decoder(config)
    initialize(decoder, 5)
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * (0.2 if parameter.ndim == 1 else 0.1))
    return decoder.eval()


@pytest.fixture
def make_run(tmp_path, prepared) -> Callable[..., tuple[Path, Decoder]]:
    """From a decoder's config to a run's folder with one checkpoint, and the decoder that it holds."""

    def make(config: DecoderConfig, name: str = "run") -> tuple[Path, Decoder]:
        folder, decoder = tmp_path / name / "version_0", randomised(config)
        (folder / "checkpoints").mkdir(parents=True)
        weights = {f"decoder.{key}": value for key, value in decoder.state_dict().items()}
        checkpoint = {"state_dict": weights, "hyper_parameters": {"decoder": asdict(config)}, "global_step": 7}
        torch.save(checkpoint, folder / "checkpoints/step-00000007.ckpt")
        (folder / "tokenizer.json").write_bytes((prepared / "tokenizer.json").read_bytes())
        record = {"tokenizer": {"eos_token": "<|endoftext|>"}, "precision": "32-true", "data_folder": str(prepared)}
        (folder / "run.json").write_text(json.dumps(record))
        keys = ("tasks", "include_path", "limit", "num_fewshot")
        evaluation = dict.fromkeys(keys) | {"batch_tokens": 4096}
        (folder / "config.yaml").write_text(yaml.safe_dump({"evaluation": evaluation}))
        return folder, decoder

    return make


@pytest.fixture
def export(make_run, tmp_path) -> Callable[..., tuple[Path, Decoder]]:
    """From a decoder's config to an exported folder, and the decoder that it holds."""
    from lightning_polycom.huggingface.export import export_checkpoint
    from lightning_polycom.huggingface.options import ExportOptions

    def make(config: DecoderConfig, **options) -> tuple[Path, Decoder]:
        run, decoder = make_run(config)
        export_checkpoint(run, tmp_path / "exported", ExportOptions(**options))
        return tmp_path / "exported", decoder

    return make


def loaded(folder: Path, **options):
    """What a user of transformers gets."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, **options).eval()


def token_ids(rows: int = 3, length: int = 17) -> torch.Tensor:
    return torch.randint(0, 600, (rows, length), generator=torch.Generator().manual_seed(1))

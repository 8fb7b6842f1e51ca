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
from tiny_exports import randomised

from lightning_polycom.model import Decoder, DecoderConfig


@pytest.fixture
def make_run(tmp_path, prepared) -> Callable[..., tuple[Path, Decoder]]:
    """From a decoder's config to a run's folder with one checkpoint, and the decoder that it holds."""

    def make(config: DecoderConfig, name: str = "trained") -> tuple[Path, Decoder]:
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

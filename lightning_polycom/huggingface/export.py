"""A checkpoint to a folder that transformers loads."""

import os
import shutil
from dataclasses import asdict
from pathlib import Path

import torch

from lightning_polycom.atomic import write_json, write_text
from lightning_polycom.checkpoints import locate_checkpoint
from lightning_polycom.checkpoints.load import fitting_weights, load_tokenizer, read_weights
from lightning_polycom.checkpoints.locate import run_folder_of
from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.huggingface.layouts import OWN_ARCHITECTURE, config_json
from lightning_polycom.huggingface.model_card import model_card
from lightning_polycom.huggingface.new_folder import new_folder, refuse_other_content
from lightning_polycom.huggingface.options import ExportOptions
from lightning_polycom.huggingface.run_facts import RunFacts, run_facts
from lightning_polycom.huggingface.tokenizer_files import save_tokenizer
from lightning_polycom.huggingface.weights import save_weights
from lightning_polycom.model import DecoderConfig

RECORD = "polycom_export.json"
"""Marks a folder as an export, which a later export may replace."""

FORMAT = "lightning_polycom.export/1"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
OWN_FILES = (
    "configuration_polycom.py",
    "modeling_polycom.py",
    "feed_forward_polycom.py",
    "activations_polycom.py",
)


def export_checkpoint(path: str | os.PathLike, output: Path, options: ExportOptions = ExportOptions()) -> str:
    """Writes the checkpoint that `path` means to the folder `output`; returns the name of the class that loads it.

    The weights are mapped from the checkpoint and written file by file. The folder appears whole; an earlier export
    there is replaced.

    Raises:
        InputError: no checkpoint, one that does not fit its own config, an activation that is no member of the
            registry, or an `output` that holds something else.
    """
    refuse_other_content(output, RECORD)
    file = locate_checkpoint(path)
    checkpoint = read_weights(file)
    config, weights = fitting_weights(file, checkpoint)
    folder = run_folder_of(file)
    tokenizer, facts = load_tokenizer(folder), run_facts(folder, file, checkpoint)
    dtype = DTYPES[options.dtype]
    balancing = checkpoint["hyper_parameters"].get("balancing") or {}
    described = config_json(
        config,
        options.layout == "own",
        str(dtype).removeprefix("torch."),
        tokenizer,
        balancing.get("load_balance_loss_weight"),
    )
    architecture = described["architectures"][0]
    own = architecture == OWN_ARCHITECTURE
    with new_folder(output, RECORD) as building:
        write_json(building / "config.json", described)
        save_weights(building, weights, dtype, config.tie_embeddings, options.max_shard_bytes)
        save_tokenizer(building, tokenizer, config.max_sequence_length)
        write_json(building / "generation_config.json", _generation_config(tokenizer))
        if own:
            _copy_own_files(building)
        card = model_card(config, facts, output.absolute().name, own, described["dtype"], options.license)
        write_text(building / "README.md", card)
        write_json(building / RECORD, _record(config, facts))
    return architecture


def _generation_config(tokenizer: Tokenizer) -> dict[str, int]:
    """Padding is masked out, so its id does not matter; without one, `generate` warns each time."""
    begin = {} if tokenizer.bos_token_id is None else {"bos_token_id": tokenizer.bos_token_id}
    return {**begin, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.eos_token_id}


def _copy_own_files(folder: Path) -> None:
    for name in OWN_FILES:
        shutil.copyfile(Path(__file__).parent / "files" / name, folder / name)


def _record(config: DecoderConfig, facts: RunFacts) -> dict:
    return {"format": FORMAT, "decoder": asdict(config), **asdict(facts)}

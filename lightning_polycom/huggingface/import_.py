"""A folder of transformers to the folder of a run, with one checkpoint of weights."""

import inspect
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from lightning_polycom.atomic import write_json, write_text
from lightning_polycom.callbacks import DownstreamEvaluation
from lightning_polycom.checkpoints.load import PREFIX
from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.errors import InputError
from lightning_polycom.huggingface.decoder_config import decoder_config
from lightning_polycom.huggingface.export import RECORD
from lightning_polycom.huggingface.json_file import read_json
from lightning_polycom.huggingface.new_folder import new_folder, refuse_other_content
from lightning_polycom.huggingface.tokenizer_files import read_tokenizer
from lightning_polycom.huggingface.weight_names import EMBEDDING, FUSED_IN, HEAD, Place, places
from lightning_polycom.huggingface.weights import WeightFiles
from lightning_polycom.model import Decoder, DecoderConfig

IGNORED = "rotary_emb.inv_freq"  # a table that old folders keep


def import_folder(
    folder: Path, output: Path, eos_token: str | None = None, data_folder: str | None = None
) -> DecoderConfig:
    """Writes `output`, a run's folder that `polycom evaluate` and `generate` take, from the folder `folder`.

    Weights become fp32, as `polycom fit` saves them. No code of the folder is run. `eos_token` is the tokenizer's
    end-of-text token, where the folder does not say; `data_folder` prepared text whose tasks `evaluate` is to find.

    Raises:
        InputError: a folder that does not describe one of our decoders, whose weights do not fit it, or are no
            safetensors, or an `output` that is not empty.
    """
    refuse_other_content(output, marker=None)
    if not folder.is_dir():
        raise InputError(f"import: {folder} is no folder; give one that transformers has saved")
    values = read_json(folder / "config.json")
    config = decoder_config(folder / "config.json", values)
    files = WeightFiles(folder)
    _check_names(folder, config, files)
    tokenizer = read_tokenizer(folder, values, eos_token)
    if tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"import: {folder}/tokenizer.json has {tokenizer.vocab_size} tokens and the embedding {config.vocab_size} "
            "rows; the tokenizer belongs to another model"
        )
    weights, step = _weights(config, files), _step(folder)
    record = _record(config, tokenizer, folder, data_folder or str(output))
    with new_folder(output) as building:
        (building / "checkpoints").mkdir()
        checkpoint = {"state_dict": weights, "hyper_parameters": {"decoder": asdict(config)}, "global_step": step}
        torch.save(checkpoint, building / "checkpoints" / f"step-{step:08d}.ckpt")
        tokenizer.save(building / "tokenizer.json")
        write_text(building / "config.yaml", yaml.safe_dump(_run_config(config), sort_keys=False))
        write_json(building / "run.json", record)
    return config


def _record(config: DecoderConfig, tokenizer: Tokenizer, source: Path, data_folder: str) -> dict[str, Any]:
    """The entries of a run.json that later commands read."""
    return {
        "status": "imported",
        "imported_from": str(source),
        "precision": "32-true",
        "data_folder": data_folder,
        "tokenizer": {"eos_token": tokenizer.eos_token, "sha256": tokenizer.fingerprint},
        "activation": config.activation.name,
        "num_parameters": config.num_parameters,
        "num_active_parameters": config.num_active_parameters,
    }


def _step(folder: Path) -> int:
    """The optimizer step that our own export is of; 0 for a folder of others."""
    step = read_json(folder / RECORD).get("step") if (folder / RECORD).is_file() else 0
    if not isinstance(step, int) or step < 0:
        raise InputError(f"import: {folder / RECORD} has step {step!r}; export the run again")
    return step


def _places(config: DecoderConfig, files: WeightFiles) -> dict[str, list[Place]]:
    """Where each parameter of the decoder lies in the folder's weights, by our names."""
    fused = any(name.endswith(FUSED_IN) for name in files.names)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Decoder(config).state_dict().items()}
    return {name: list(places(name, shape, fused)) for name, shape in shapes.items()}


def _check_names(folder: Path, config: DecoderConfig, files: WeightFiles) -> None:
    """Refuses tensors that are missing, too many, or of another shape."""
    shapes = {place.name: place.shape for found in _places(config, files).values() for place in found}
    found = {name for name in files.names if not name.endswith(IGNORED)}
    missing = set(shapes) - found - ({HEAD} if config.tie_embeddings else set())
    if missing:
        raise InputError(f"import: the weights in {folder} lack {_first(missing)}; copy the folder again")
    if found - set(shapes):
        raise InputError(f"import: {folder} holds {_first(found - set(shapes))}, which the decoder has no place for")
    for name in sorted(found):
        if files.shape(name) != shapes[name]:
            raise InputError(
                f"import: {name} in {folder} has shape {files.shape(name)}; config.json asks for {shapes[name]}"
            )
    if config.tie_embeddings and HEAD in found and not torch.equal(files.read(HEAD), files.read(EMBEDDING)):
        raise InputError(f"import: {folder} has an {HEAD} of its own, but config.json ties it to the embedding")


def _first(names: set[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{min(names)}{more}"


def _weights(config: DecoderConfig, files: WeightFiles) -> dict[str, Tensor]:
    """The weights in fp32 by the names of a checkpoint; a tied head shares its tensor."""
    weights: dict[str, Tensor] = {}
    for name, found in _places(config, files).items():
        if found[0].name == HEAD and config.tie_embeddings:
            weights[PREFIX + name] = weights[f"{PREFIX}embedding.weight"]
        elif found[0].expert is None:
            weights[PREFIX + name] = files.read(found[0].name, found[0].rows).float()
        else:
            whole = weights[PREFIX + name] = torch.empty(len(found), *found[0].shape)
            for place in found:
                whole[place.expert] = files.read(place.name)
    return weights


def _run_config(config: DecoderConfig) -> dict[str, Any]:
    """The sections of a run's config.yaml that later commands read."""
    options = inspect.signature(DownstreamEvaluation.__init__).parameters.values()
    evaluation = {p.name: p.default for p in options if p.name != "self"}
    decoder = asdict(config)
    decoder["activation"] = {k: list(v) if isinstance(v, tuple) else v for k, v in decoder["activation"].items()}
    return {"model": {"decoder": decoder}, "evaluation": evaluation}

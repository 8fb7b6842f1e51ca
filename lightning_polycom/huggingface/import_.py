"""A folder of transformers to the folder of a run, with one checkpoint of weights."""

import inspect
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

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


class OpenFolder(NamedTuple):
    """A folder of transformers that holds the weights of a decoder of ours; `values` are those of its config.json."""

    values: dict[str, Any]
    config: DecoderConfig
    files: WeightFiles

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """The decoder's weights by name, in fp32, one at a time; a tied head is left out."""
        for name, found in _places(self.config, self.files).items():
            if found[0].name == HEAD and self.config.tie_embeddings:
                continue
            if found[0].expert is None:
                yield name, self.files.read(found[0].name, found[0].rows).float()
                continue
            whole = torch.empty(len(found), *found[0].shape)
            for place in found:
                whole[place.expert] = self.files.read(place.name)
            yield name, whole


def open_folder(folder: Path) -> OpenFolder:
    """Opens the weights of `folder` and compares their names and shapes with its config.json.

    Raises:
        InputError: a folder that does not describe one of our decoders, whose weights do not fit it, or are no
            safetensors.
    """
    values = read_json(folder / "config.json")
    config = decoder_config(folder / "config.json", values)
    files = WeightFiles(folder)
    _check_names(folder, config, files)
    return OpenFolder(values, config, files)


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
    opened = open_folder(folder)
    config = opened.config
    tokenizer = read_tokenizer(folder, opened.values, eos_token)
    if tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"import: {folder}/tokenizer.json has {tokenizer.vocab_size} tokens and the embedding {config.vocab_size} "
            "rows; the tokenizer belongs to another model"
        )
    weights, step = {PREFIX + name: values for name, values in opened.weights()}, _step(folder)
    if config.tie_embeddings:
        weights[f"{PREFIX}head.weight"] = weights[f"{PREFIX}embedding.weight"]
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
        "tokenizer": {
            "eos_token": tokenizer.eos_token,
            "bos_token": tokenizer.bos_token,
            "sha256": tokenizer.fingerprint,
        },
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


def _run_config(config: DecoderConfig) -> dict[str, Any]:
    """The sections of a run's config.yaml that later commands read."""
    options = inspect.signature(DownstreamEvaluation.__init__).parameters.values()
    evaluation = {p.name: p.default for p in options if p.name != "self"}
    decoder = asdict(config)
    decoder["activation"] = {k: list(v) if isinstance(v, tuple) else v for k, v in decoder["activation"].items()}
    return {"model": {"decoder": decoder}, "evaluation": evaluation}

"""Rebuilds a decoder and its tokenizer from a checkpoint."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_polycom.checkpoints.complete import is_sharded
from lightning_polycom.checkpoints.locate import locate_checkpoint, run_folder_of
from lightning_polycom.checkpoints.sharded import read_joined, read_values
from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.errors import InputError
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.training.run_folder import read_record

PREFIX = "decoder."


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint file onto the CPU, memory-mapped, without executing anything in it.

    Raises:
        InputError: the file is no checkpoint of ours, is truncated, or holds objects that loading would execute.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"checkpoint: {path} is refused, it holds more than tensors and plain values") from error
    except (RuntimeError, EOFError, OSError) as error:
        raise InputError(f"checkpoint: {path} cannot be read, it is truncated or no checkpoint") from error
    _require_decoder(checkpoint, path)
    return checkpoint


def _require_decoder(checkpoint: Any, path: Path) -> None:
    if not isinstance(checkpoint, dict) or "decoder" not in (checkpoint.get("hyper_parameters") or {}):
        raise InputError(f"checkpoint: {path} was not written by polycom fit; it names no decoder")


def read_for_resume(path: Path) -> int:
    """The optimizer step of a checkpoint that training can go on from.

    Raises:
        InputError: as `read_checkpoint`, it holds weights only, or it is sharded and incomplete.
    """
    checkpoint = read_values(path) if is_sharded(path) else read_checkpoint(path)
    _require_decoder(checkpoint, path)
    weights = "weights" if is_sharded(path) else "state_dict"
    missing = {weights, "optimizer_states", "lr_schedulers", "loops", "global_step"} - set(checkpoint)
    if missing:
        raise InputError(f"ckpt_path: {path} lacks {', '.join(sorted(missing))}; training cannot go on from it")
    return checkpoint["global_step"]


def load_decoder(path: str | os.PathLike) -> tuple[Decoder, Tokenizer]:
    """The decoder (fp32, CPU, eval mode) and the tokenizer of a checkpoint or a run's folder.

    Raises:
        InputError: nothing there, not a checkpoint, weights that do not fit their config, or no tokenizer beside it.
    """
    file = locate_checkpoint(path)
    config, weights = fitting_weights(file, read_weights(file))
    with torch.device("meta"):
        decoder = Decoder(config)
    decoder.to_empty(device="cpu")
    decoder.tie_embeddings()
    # A file is mapped and copied; what was joined is memory already.
    decoder.load_state_dict(weights, assign=is_sharded(file))
    decoder.tie_embeddings()
    return decoder.eval(), load_tokenizer(run_folder_of(file))


def read_weights(path: Path) -> dict[str, Any]:
    """A checkpoint without its optimizer where that is left out at no cost: a sharded one is joined on the CPU.

    Raises:
        InputError: as `read_checkpoint`, or it is sharded and incomplete.
    """
    checkpoint = read_joined(path, with_optimizer=False) if is_sharded(path) else read_checkpoint(path)
    _require_decoder(checkpoint, path)
    return checkpoint


def read_step(path: Path) -> int:
    """The optimizer step of a checkpoint; no tensor is read.

    Raises:
        InputError: as `read_checkpoint`, or it is sharded and incomplete.
    """
    return (read_values(path) if is_sharded(path) else read_checkpoint(path))["global_step"]


def fitting_weights(file: Path, checkpoint: dict[str, Any]) -> tuple[DecoderConfig, dict[str, Tensor]]:
    """The decoder's shape and its weights by name, as `read_checkpoint` mapped them; none is copied.

    Raises:
        InputError: names or shapes that do not fit the decoder that the checkpoint names.
    """
    config = DecoderConfig.from_dict(checkpoint["hyper_parameters"]["decoder"])
    weights = {k.removeprefix(PREFIX): v for k, v in checkpoint["state_dict"].items() if k.startswith(PREFIX)}
    with torch.device("meta"):
        decoder = Decoder(config)
    try:
        decoder.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise InputError(f"checkpoint: the weights in {file} do not fit the decoder that it names") from error
    return config, weights


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a run's folder.

    Raises:
        InputError: there is none, or no run.json that names its end-of-text token.
    """
    if not (folder / "tokenizer.json").is_file():
        raise InputError(f"checkpoint: {folder} lacks tokenizer.json; keep a checkpoint in the folder of its run")
    record = read_record(folder)["tokenizer"]
    # Runs of earlier versions record no beginning-of-text token.
    return Tokenizer.load(folder / "tokenizer.json", record["eos_token"], record.get("bos_token"))

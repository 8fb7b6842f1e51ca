"""Training that begins from given weights, of a checkpoint or a Hugging Face folder; nothing in them is executed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from lightning_polycom.checkpoints.complete import is_sharded
from lightning_polycom.checkpoints.load import PREFIX, fitting_weights, read_checkpoint
from lightning_polycom.checkpoints.locate import locate_checkpoint
from lightning_polycom.checkpoints.sharded import WEIGHTS, read_into, read_values
from lightning_polycom.errors import InputError
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.config import InitializationConfig
from lightning_polycom.training.same_decoder import differences

KEY = "model.initial_weights"


def find_initial_weights(path: str, config: DecoderConfig) -> Path:
    """The checkpoint or the Hugging Face folder that `path` means, once its decoder is found to be `config`.

    Raises:
        InputError: nothing there, or weights of another decoder; names what differs.
    """
    with _naming_the_key():
        is_folder = _is_huggingface(Path(path))
        found = Path(path) if is_folder else locate_checkpoint(path)
        theirs = _folder_config(found) if is_folder else _checkpoint_config(found)
        differing = differences(_settled(theirs), _settled(config))
        if differing:
            said = differences(theirs, config)
            what = ", ".join(said.get(name, differing[name]) for name in differing)
            raise InputError(f"{found} is of another decoder: {what}; give model.decoder its settings")
    return found


def load_initial_weights(decoder: Decoder, found: Path) -> None:
    """Fills the decoder, or this rank's shards of it, with the weights that `find_initial_weights` has found.

    Of a sharded checkpoint each rank reads its own part only. Of others it reads every matrix, one at a time, and
    keeps its part.

    Raises:
        InputError: weights that are damaged, incomplete or do not fit their own config.
    """
    targets = decoder.state_dict()
    with _naming_the_key(), torch.no_grad():
        if not _is_huggingface(found) and is_sharded(found):
            aliases = read_values(found)["aliases"]  # tied weights are stored once
            named = {PREFIX + name: target for name, target in targets.items()}
            stored = {WEIGHTS + name: target for name, target in named.items() if name not in aliases}
            read_into(found, stored, together=False)
            return
        for name, values in _whole_weights(found):
            if values.shape != targets[name].shape:
                raise InputError(f"{found} has {name} in shape {tuple(values.shape)}, which the decoder does not")
            targets[name].copy_(_part(targets[name], values))


def _whole_weights(found: Path) -> Iterator[tuple[str, Tensor]]:
    if _is_huggingface(found):
        from lightning_polycom.huggingface.import_ import open_folder

        yield from open_folder(found).weights()
    else:
        yield from fitting_weights(found, read_checkpoint(found))[1].items()


def _is_huggingface(path: Path) -> bool:
    return (path / "config.json").is_file()


def _folder_config(folder: Path) -> DecoderConfig:
    from lightning_polycom.huggingface.import_ import open_folder

    return open_folder(folder).config


def _checkpoint_config(path: Path) -> DecoderConfig:
    checkpoint = read_values(path) if is_sharded(path) else read_checkpoint(path)
    return DecoderConfig.from_dict(checkpoint["hyper_parameters"]["decoder"])


def _settled(config: DecoderConfig) -> DecoderConfig:
    """The same function, said in one way: what only draws weights is left out, and widths are as they come out."""
    heads = None if config.key_value_heads == config.num_heads else config.key_value_heads
    settled = replace(config, initialization=InitializationConfig(), num_key_value_heads=heads)
    if not config.is_gated:
        return replace(settled, gated_size_multiple=1)
    mixture = config.mixture_of_experts
    if mixture is not None:
        mixture = replace(mixture, shared_intermediate_size=_for_two_matrices(config.shared_feed_forward_size))
    size = _for_two_matrices(config.feed_forward_size)
    return replace(settled, intermediate_size=size, gated_size_multiple=1, mixture_of_experts=mixture)


def _for_two_matrices(width: int) -> int:
    """The size of which two thirds are `width`, exactly."""
    return (3 * width + 1) // 2


def _part(target: Tensor, values: Tensor) -> Tensor:
    """Whole `values` on the target's device, cut as it is."""
    values = values.to(target.device)
    if not isinstance(target, DTensor):
        return values
    return distribute_tensor(values, target.device_mesh, target.placements, src_data_rank=None)


@contextmanager
def _naming_the_key() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        reason = str(error).removeprefix("checkpoint: ").removeprefix("import: ")
        raise InputError(f"{KEY}: {reason}") from error

"""Weights as safetensors: written shard by shard, read without executing anything."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_polycom.atomic import write_json
from lightning_polycom.errors import InputError
from lightning_polycom.huggingface.json_file import read_json
from lightning_polycom.huggingface.options import MAX_SHARD_BYTES
from lightning_polycom.huggingface.weight_names import HEAD, KEPT_IN_FP32, places

if TYPE_CHECKING:
    from safetensors import safe_open

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def save_weights(
    folder: Path, weights: dict[str, Tensor], dtype: torch.dtype, tied: bool, max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Writes `weights`, by our names, under transformers' names.

    One shard is held at a time, beside what `weights` itself holds. An activation's own numbers and routers stay fp32.
    A tied head is not written. Experts are written one by one, as every version of transformers reads them.
    """
    from safetensors.torch import save_file

    parts = {
        place.name: weight if place.expert is None else weight[place.expert]
        for name, weight in weights.items()
        for place in places(name, weight.shape)
    }
    if tied:
        del parts[HEAD]
    types = {theirs: torch.float32 if any(part in theirs for part in KEPT_IN_FP32) else dtype for theirs in parts}
    sizes = {theirs: part.numel() * types[theirs].itemsize for theirs, part in parts.items()}
    shards = _shards(sizes, max_shard_bytes)
    files = [SINGLE] if len(shards) == 1 else [_shard_name(i, len(shards)) for i in range(len(shards))]
    for file, shard in zip(files, shards, strict=True):
        tensors = {theirs: parts[theirs].to(types[theirs]).contiguous() for theirs in shard}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(0o644)  # the library leaves it to its owner alone
    if len(shards) > 1:
        where = {theirs: file for file, shard in zip(files, shards, strict=True) for theirs in shard}
        write_json(folder / INDEX, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": where})


class WeightFiles:
    """The safetensors of a folder, open: `names`, and one tensor at a time.

    Raises:
        InputError: no safetensors, a pickle in their place, a shard that is missing, damaged or outside the folder.
    """

    def __init__(self, folder: Path):
        self._files: dict[str, safe_open] = {}
        self._where: dict[str, str] = {}
        for file in _weight_files(folder):
            opened = _opened(folder / file)
            self._files[file] = opened
            self._where |= dict.fromkeys(opened.keys(), file)

    @property
    def names(self) -> set[str]:
        """The tensors' names, transformers' own."""
        return set(self._where)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return tuple(self._files[self._where[name]].get_slice(name).get_shape())

    def read(self, name: str, rows: tuple[int, int] | None = None) -> Tensor:
        """One tensor, in the dtype of the file; with `rows` that part of its second dimension.

        Raises:
            InputError: it does not hold floating-point numbers; quantised weights are not read.
        """
        file = self._where[name]
        opened = self._files[file]
        tensor = opened.get_tensor(name) if rows is None else opened.get_slice(name)[:, slice(*rows)]
        if tensor.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            raise InputError(f"import: {name} in {file} is {tensor.dtype}; give fp32, bf16 or fp16 weights")
        return tensor


@contextmanager
def refusing_damage(path: Path) -> Iterator[None]:
    """Turns the errors of the safetensors library into one line that names the file."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"import: {path} is damaged or no safetensors file ({reason}); copy it again") from error


def _opened(path: Path) -> Any:
    from safetensors import safe_open

    with refusing_damage(path):
        return safe_open(path, framework="pt")


def _weight_files(folder: Path) -> list[str]:
    if (folder / INDEX).is_file():
        where = read_json(folder / INDEX).get("weight_map")
        if not isinstance(where, dict) or not where:
            raise InputError(f"import: {folder / INDEX} has no weight_map; copy the folder again")
        files = sorted({str(file) for file in where.values()})
        for file in files:
            # An index from elsewhere must not point out of its folder.
            if Path(file).name != file or not (folder / file).is_file():
                raise InputError(f"import: {folder / INDEX} names {file!r}, which is not in {folder}; copy it again")
        return files
    if (folder / SINGLE).is_file():
        return [SINGLE]
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise InputError(
            f"import: {folder} holds {pickles[0]}, a pickle that could run code, and no {SINGLE}; "
            "save the weights as safetensors"
        )
    raise InputError(f"import: {folder} holds no {SINGLE} and no {INDEX}; give a folder that transformers has saved")


def _shards(sizes: dict[str, int], most: int) -> list[list[str]]:
    """Names in order, cut where a shard would exceed `most` bytes; a larger tensor is a shard of its own."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > most:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _shard_name(index: int, count: int) -> str:
    return f"model-{index + 1:05d}-of-{count:05d}.safetensors"

"""Sharded checkpoints: a folder that all ranks write, in torch.distributed.checkpoint's format.

    step-00001000.ckpt/  __<rank>_0.distcp  .metadata   tensors in pieces
                         values.pt                      everything that is no tensor of weights or optimizer
                         complete.json                  written last

The single-file form is the same content: `values.pt` with the tensors put back in.
"""

import errno
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.distributed.checkpoint as dcp
from torch import Tensor

from lightning_polycom.atomic import write_json
from lightning_polycom.checkpoints.complete import RECORD, remove, require_complete
from lightning_polycom.checkpoints.safe_reader import SafeReader
from lightning_polycom.errors import InputError

VALUES = "values.pt"
WEIGHTS = "state_dict."


def write_sharded(checkpoint: dict[str, Any], path: Path, group: torch.distributed.ProcessGroup | None = None) -> None:
    """Writes `checkpoint` to the folder `path`, whole or not at all. Collective; every rank adds its shards.

    `checkpoint` has the single-file form, but weights may be DTensors, and optimizer states name parameters instead of
    numbering them. The folder gets its name from rank 0 when all ranks have finished. `group` holds all ranks; default
    the one that training uses.

    Raises:
        InputError: on every rank, if one of them cannot write.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    tensors, values = _split(checkpoint)
    _on_first_rank(path, group, _prepare, temporary)
    try:
        dcp.save(tensors, storage_writer=dcp.FileSystemWriter(temporary), process_group=group)
        problem = None
    except dcp.api.CheckpointException as error:  # raised on every rank
        problem = next(iter(error.failures.values()))[0]
    if problem is not None:
        _on_first_rank(path, group, remove, temporary)
        raise cannot_be_saved(path, problem)
    _on_first_rank(path, group, _finish, temporary, path, values)


def read_values(folder: Path) -> dict[str, Any]:
    """A sharded checkpoint without its tensors; `optimizer_states` name parameters.

    Raises:
        InputError: the checkpoint is incomplete, or holds what loading would execute.
    """
    require_complete(folder)
    path = folder / VALUES
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"checkpoint: {path} is refused, it holds more than tensors and plain values") from error
    except (RuntimeError, EOFError, OSError) as error:
        raise InputError(f"checkpoint: {path} cannot be read, it is damaged") from error


def sizes(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and dtype of every tensor of a sharded checkpoint: state_dict.<name> and optimizer.<n>.<name>.<key>."""
    entries = SafeReader(folder).read_metadata().state_dict_metadata
    return {name: (entry.size, entry.properties.dtype) for name, entry in entries.items()}


def read_into(folder: Path, tensors: dict[str, Tensor], together: bool) -> None:
    """Fills `tensors` in place; `together`: all ranks call this, each with its shards, else this process alone.

    Raises:
        InputError: a tensor that the checkpoint lacks, or has in another shape.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.distributed is disabled.*")  # as it is meant to be
            dcp.load(tensors, storage_reader=SafeReader(folder), no_dist=not together)
    except InputError:
        raise
    except (dcp.api.CheckpointException, RuntimeError, ValueError, OSError, pickle.UnpicklingError) as error:
        failures = getattr(error, "failures", None)
        reason = next(iter(failures.values()))[0] if failures else error
        raise InputError(f"checkpoint: {folder} cannot be read ({_one_line(reason)})") from error


def empty_joined(folder: Path, with_optimizer: bool) -> dict[str, Any]:
    """The single-file form of a sharded checkpoint, with tensors that take no memory until they are filled."""
    values = read_values(folder)
    prefixes = (WEIGHTS, "optimizer.") if with_optimizer else (WEIGHTS,)
    tensors = {k: torch.empty(*v[:1], dtype=v[1]) for k, v in sizes(folder).items() if k.startswith(prefixes)}
    weights = {name: tensors[WEIGHTS + values["aliases"].get(name, name)] for name in values.pop("weights")}
    del values["aliases"]
    named = values.pop("optimizer_states", [])
    if with_optimizer:
        values["optimizer_states"] = [_numbered(states, n, tensors) for n, states in enumerate(named)]
    else:
        values.pop("lr_schedulers", None)
    return {**values, "state_dict": weights}


def stored_tensors(checkpoint: dict[str, Any], folder: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint in the single-file form by the names under which `folder` stores them."""
    values = read_values(folder)
    weights = {WEIGHTS + k: v for k, v in checkpoint["state_dict"].items() if k not in values["aliases"]}
    states = {}
    for number, optimizer in enumerate(checkpoint.get("optimizer_states", [])):
        groups = values["optimizer_states"][number]["param_groups"]
        names = [name for group in groups for name in group["params"]]
        for index, state in optimizer["state"].items():
            states |= {f"optimizer.{number}.{names[index]}.{key}": value for key, value in state.items()}
    return weights | states


def read_joined(folder: Path, with_optimizer: bool) -> dict[str, Any]:
    """A sharded checkpoint in the single-file form, on the CPU, read by this process alone.

    Raises:
        InputError: as `read_values` and `read_into`.
    """
    checkpoint = empty_joined(folder, with_optimizer)
    read_into(folder, stored_tensors(checkpoint, folder), together=False)
    return checkpoint


def cannot_be_saved(path: Path, error: BaseException) -> InputError:
    """What a save that fails is reported as."""
    return InputError(
        f"checkpoint: {path} cannot be written ({_one_line(error)}); check the disk, earlier checkpoints are untouched"
    )


def _split(checkpoint: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors by flat name, each once, and everything else."""
    values = {key: value for key, value in checkpoint.items() if key not in ("state_dict", "optimizer_states")}
    tensors, first_name, aliases = {}, {}, {}
    for name, weight in checkpoint["state_dict"].items():
        known = first_name.setdefault(id(weight), name)  # tied weights
        if known == name:
            tensors[WEIGHTS + name] = weight.detach()
        else:
            aliases[name] = known
    groups = []
    for number, states in enumerate(checkpoint.get("optimizer_states", [])):
        for name, state in states["state"].items():
            tensors |= {f"optimizer.{number}.{name}.{key}": value for key, value in state.items()}
        groups.append({"param_groups": states["param_groups"]})
    return tensors, {
        **values, "weights": list(checkpoint["state_dict"]), "aliases": aliases, "optimizer_states": groups
    }  # fmt: skip


def _numbered(states: dict[str, Any], number: int, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Optimizer states as one device saves them: parameters numbered through the groups."""
    ids, state, groups, prefix = {}, {}, [], f"optimizer.{number}."
    for group in states["param_groups"]:
        for name in group["params"]:
            ids[name] = len(ids)
        groups.append({**group, "params": [ids[name] for name in group["params"]]})
    for stored, value in tensors.items():
        if stored.startswith(prefix):
            name, key = stored.removeprefix(prefix).rsplit(".", 1)
            state.setdefault(ids[name], {})[key] = value
    return {"state": state, "param_groups": groups}


def _prepare(temporary: Path) -> None:
    if temporary.exists():
        remove(temporary)
    temporary.mkdir(parents=True)


def _finish(temporary: Path, path: Path, values: dict[str, Any]) -> None:
    """Adds the values and the record, and gives the folder its name."""
    try:
        with (temporary / VALUES).open("wb") as file:
            torch.save(values, file)
            os.fsync(file.fileno())
        files = {item.name: item.stat().st_size for item in sorted(temporary.iterdir())}
        world_size = torch.distributed.get_world_size()
        write_json(temporary / RECORD, {"step": values["global_step"], "world_size": world_size, "files": files})
        if path.exists():
            remove(path)  # one that was found damaged, or of the same step
        temporary.replace(path)
    finally:
        if temporary.exists():
            remove(temporary)


def _on_first_rank(
    path: Path, group: torch.distributed.ProcessGroup | None, work: Callable[..., None], *arguments: Any
) -> None:
    """Waits for rank 0 to do its `work`; what goes wrong there is raised on every rank. Collective."""
    problem = [None]
    try:
        if torch.distributed.get_rank() == 0:
            work(*arguments)
    except (OSError, RuntimeError) as error:
        problem = [str(cannot_be_saved(path, error))]
    torch.distributed.broadcast_object_list(problem, src=0, group=group)
    if problem[0] is not None:
        raise InputError(problem[0])


def _one_line(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
    # How torch's writer puts it, which cannot tell why a write fell short.
    is_short_write = "unexpected pos" in text or "file write failed" in text
    if is_short_write or getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return "no room on the disk, or a limit on the size of files"
    return text[:200] or type(error).__name__

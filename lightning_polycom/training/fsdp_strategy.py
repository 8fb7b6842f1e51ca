"""FSDP2 as a Lightning strategy: Lightning's ModelParallelStrategy with our mesh and our checkpoints."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from lightning_polycom.checkpoints.background import Save
from lightning_polycom.checkpoints.complete import is_sharded
from lightning_polycom.checkpoints.load import read_checkpoint
from lightning_polycom.checkpoints.sharded import WEIGHTS, read_into, read_values, sizes, write_sharded
from lightning_polycom.errors import InputError


class FSDP2Strategy(ModelParallelStrategy):
    """Shards weights, gradients and optimizer states over the ranks; `LanguageModel.configure_model` cuts the model.

    Checkpoints are folders that all ranks write. Those of another number of ranks, and single files of one process or
    DDP, are read too.

    Args:
        replicate_size: Copies of the sharded model (HSDP): the ranks form this many groups, each of which holds
            everything; usually the number of nodes. 1 shards over all ranks.
        reduce_every_micro_batch: Whether gradients are reduced, and cut, after each micro-batch. If not, only after
            the last of an optimizer step: less traffic, but every rank holds whole gradients in fp32 until then.
    """

    def __init__(self, replicate_size: int = 1, reduce_every_micro_batch: bool = True):
        super().__init__(data_parallel_size="auto", tensor_parallel_size=1)
        self.replicate_size, self.reduce_every_micro_batch = replicate_size, reduce_every_micro_batch
        self._sharding_mesh: DeviceMesh | None = None

    @property
    def sharding_mesh(self) -> DeviceMesh:
        """The mesh to shard over: (shard,) or (replicate, shard)."""
        return self._sharding_mesh

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        """Every rank has its own part of the data."""
        return {"num_replicas": self.world_size, "rank": self.global_rank}

    def setup_environment(self) -> None:
        """Starts the processes' group and lays the ranks out in a mesh."""
        ranks = self.num_nodes * self.num_processes
        if self.replicate_size < 1 or ranks % self.replicate_size:
            raise InputError(
                f"trainer.strategy.replicate_size: {self.replicate_size} does not divide the number of ranks, {ranks}"
            )
        self._data_parallel_size = ranks  # "auto" would mean the number of nodes
        super().setup_environment()
        self._sharding_mesh = self.device_mesh["data_parallel"]
        if self.replicate_size > 1:
            shape = (self.replicate_size, ranks // self.replicate_size)
            self._sharding_mesh = init_device_mesh(self.root_device.type, shape, mesh_dim_names=("replicate", "shard"))

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Entered for every micro-batch of an optimizer step but the last."""
        if self.reduce_every_micro_batch:
            yield
            return
        sharded = [module for module in self.lightning_module.modules() if isinstance(module, FSDPModule)]
        for module in sharded:
            module.set_requires_gradient_sync(False, recurse=False)
        try:
            yield
        finally:
            for module in sharded:
                module.set_requires_gradient_sync(True, recurse=False)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """This rank's shards, by name, where they lie; tied weights are one object."""
        return self.lightning_module.state_dict(keep_vars=True)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """This rank's shards of the states, and the parameter groups, by the parameters' names."""
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        names = _names(self.lightning_module)
        groups = [{**g, "params": [names[p] for p in g["params"]]} for g in optimizer.param_groups]
        return {"state": {names[p]: state for p, state in optimizer.state.items()}, "param_groups": groups}

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Save | None = None
    ) -> None:
        """Writes a sharded checkpoint, when and where `storage_options` says; collective."""
        path = Path(self.broadcast(str(filepath)))
        if storage_options is None:
            write_sharded(checkpoint, path)
        else:
            storage_options.run(partial(write_sharded, path=path, group=storage_options.group), checkpoint)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Fills this rank's shards of weights and optimizer states; returns everything else. Collective.

        The optimizer's settings are not taken over: they are the run's own.

        Raises:
            InputError: a checkpoint of another decoder, an incomplete one, or one that loading would execute.
        """
        path = Path(self.broadcast(str(checkpoint_path)))
        checkpoint = read_values(path) if is_sharded(path) else read_checkpoint(path)
        self.lightning_module.on_load_checkpoint(checkpoint)  # before tensors of another shape meet
        if is_sharded(path):
            self._read_shards(path)
        else:
            self._take_shards(checkpoint)
        return checkpoint

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Nothing: `load_checkpoint` has done it."""

    def _read_shards(self, path: Path) -> None:
        stored = sizes(path)
        tensors = {WEIGHTS + k: v.detach() for k, v in self.lightning_module.state_dict().items()}
        tensors = {name: value for name, value in tensors.items() if name in stored}  # tied ones are stored once
        for number, optimizer in enumerate(self.optimizers):
            for parameter, name in _names(self.lightning_module).items():
                prefix = f"optimizer.{number}.{name}."
                for key in (k.removeprefix(prefix) for k in stored if k.startswith(prefix)):
                    value = _empty_state(parameter, *stored[prefix + key])
                    optimizer.state[parameter][key] = tensors[prefix + key] = value
        read_into(path, tensors, together=True)

    def _take_shards(self, checkpoint: dict[str, Any]) -> None:
        """This rank's part of a checkpoint in the single-file form."""
        weights, own = checkpoint.pop("state_dict"), self.lightning_module.state_dict()
        for name, target in own.items():
            if name not in weights or weights[name].shape != target.shape:
                raise InputError(f"checkpoint: the weights do not fit the decoder that it names, see {name}")
            with torch.no_grad():
                target.copy_(_like(target, weights[name]))
        for optimizer, states in zip(self.optimizers, checkpoint.get("optimizer_states", []), strict=False):
            for theirs, ours in zip(states["param_groups"], optimizer.param_groups, strict=True):
                # The groups list the parameters in the model's order, here and there.
                for number, parameter in zip(theirs["params"], ours["params"], strict=True):
                    for key, value in states["state"].get(number, {}).items():
                        same = value.shape == parameter.shape
                        optimizer.state[parameter][key] = (
                            _like(parameter, value).clone() if same else value.clone().to(parameter.device)
                        )


def _names(module: nn.Module) -> dict[nn.Parameter, str]:
    return {parameter: name for name, parameter in module.named_parameters()}


def _like(target: Tensor, values: Tensor) -> Tensor:
    """Whole `values` cut as `target` is."""
    values = values.to(target.device)
    if not isinstance(target, DTensor):
        return values
    return distribute_tensor(values, target.device_mesh, target.placements, src_data_rank=None)


def _empty_state(parameter: nn.Parameter, size: torch.Size, dtype: torch.dtype) -> Tensor:
    """Room for one state of a parameter: cut as it is if it has its shape, else whole on every rank (Adam's step)."""
    if size == parameter.shape:
        return torch.zeros_like(parameter, dtype=dtype, requires_grad=False)
    return torch.zeros(size, dtype=dtype, device=parameter.device)

"""FSDP2: how a decoder is cut over ranks, and how a cut module is read whole."""

import copy

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from lightning_polycom.activations import Activation
from lightning_polycom.model import Decoder
from lightning_polycom.model.mixture_of_experts import Router


def shard(decoder: Decoder, mesh: DeviceMesh, precision: str) -> None:
    """Shards every block, then the rest (embedding, norm, head), over `mesh`: (shard,) or (replicate, shard).

    After activation checkpointing and compilation. With `precision` bf16-mixed weights are gathered and multiplied in
    bf16 and gradients summed in fp32; the shards stay fp32. The activations' own parameters and the routers' are then a
    group apart, gathered in fp32 once a step: a coefficient of 1/3 is off by 0.2% in bf16, and routers choose in fp32.
    """
    policy = MixedPrecisionPolicy()
    if precision == "bf16-mixed":
        # Inputs are not cast: the rotary tables are fp32 on one device too.
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        precise = [module for module in decoder.modules() if isinstance(module, Activation | Router)]
        precise = [module for module in precise if any(True for _ in module.parameters())]
        if precise:
            fully_shard(precise, mesh=mesh, reshard_after_forward=False)
    for block in decoder.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(decoder, mesh=mesh, mp_policy=policy)


def reshard(decoder: nn.Module) -> None:
    """Frees what a forward pass without a backward pass leaves gathered; nothing to do for one that is not sharded."""
    for module in decoder.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(module: nn.Module) -> nn.Module:
    """The module itself, or, if it is sharded, a twin that holds its own parameters whole. Collective."""
    if not any(isinstance(parameter, DTensor) for parameter in module.parameters(recurse=False)):
        return module
    twin = copy.copy(module)
    twin._parameters = {name: whole_parameter(parameter) for name, parameter in module._parameters.items()}
    return twin


def whole_parameter(parameter: nn.Parameter | None) -> nn.Parameter | None:
    """The parameter itself, or, if it is sharded, a copy of it whole. Collective."""
    if isinstance(parameter, DTensor):
        return nn.Parameter(parameter.full_tensor(), requires_grad=False)
    return parameter

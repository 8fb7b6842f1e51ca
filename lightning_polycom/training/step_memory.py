"""The peak memory of a training step, counted on the real decoder without a value being computed.

The step runs on tensors that have shapes, dtypes and storages of a size but no memory (torch's FakeTensorMode), with
the operations of a CPU. So nothing here restates what the decoder, autograd, autocast or FSDP2 keep. Differences of a
GPU are in docs/training.md.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_polycom.activations.kernels.chunks import abridged_loops
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.linear_cross_entropy import read_loss
from lightning_polycom.training.activation_checkpointing import ActivationCheckpointing, checkpoint_activations
from lightning_polycom.training.live_bytes import LiveBytes
from lightning_polycom.training.optimizers import OptimizerConfig, build_optimizer
from lightning_polycom.training.sharding import shard

WEIGHTS, GRADIENTS, MOMENTS, BUCKETS = "weights", "gradients", "optimizer moments", "DDP's buckets"
COPIES, ACTIVATIONS, LOSS, BACKWARD = "weight copies", "activations", "loss", "backward"
KINDS = (WEIGHTS, GRADIENTS, MOMENTS, BUCKETS, COPIES, ACTIVATIONS, LOSS, BACKWARD)


@dataclass(frozen=True)
class StepShape:
    """What a training step's memory depends on, beside the decoder.

    Args:
        micro_batch_size: Sequences of a forward pass on one device.
        sequence_length: Tokens of a sequence.
        accumulation: Micro-batches of an optimizer step.
        separate_documents: Whether tokens attend to their own document only.
        precision: 32-true or bf16-mixed.
        activation_checkpointing: As in `LanguageModel`.
        z_loss_weight: As in `LanguageModel`.
        sharded_over: Ranks that FSDP2 shards over; None without it.
        replicate_size: Copies of the sharded model.
        gradient_buckets: Whether gradients have a second copy to be exchanged in, as under DDP.
    """

    micro_batch_size: int
    sequence_length: int
    accumulation: int = 1
    separate_documents: bool = False
    precision: str = "32-true"
    activation_checkpointing: ActivationCheckpointing = "none"
    z_loss_weight: float = 0.0
    sharded_over: int | None = None
    replicate_size: int = 1
    gradient_buckets: bool = False


class Uncountable(Exception):
    """A decoder that cannot be run without values; names the operation."""


@dataclass(frozen=True)
class StepMemory:
    """The most bytes of tensors that are alive at once on one device, and what they are: `KINDS`, zeros left out."""

    peak: int
    parts: dict[str, int]


def count_step_memory(config: DecoderConfig, step: StepShape) -> StepMemory:
    """Counts a step that is not the first: moments exist, and the last step's gradients do until backward begins.

    Raises:
        Uncountable: the decoder reads a value in its forward or backward pass, or an operation cannot do without.
    """
    from torch._subclasses import fake_tensor as fake

    with _mesh(step) as mesh:
        decoder = _decoder(config, step, mesh)
        try:
            with fake.FakeTensorMode(allow_non_fake_inputs=True), abridged_loops():
                decoder.to_empty(device="cpu")
                decoder.tie_embeddings()
                counted = _count_later_step(decoder, step)
        except (
            fake.DataDependentOutputException,
            fake.DynamicOutputShapeException,
            fake.UnsupportedOperatorException,
        ) as error:
            raise Uncountable(str(error.func)) from error
    peak, parts = counted.peak, dict(counted.at_peak)
    if step.gradient_buckets:
        parts[BUCKETS] = sum(p.nbytes for p in decoder.parameters() if p.requires_grad)
        peak += parts[BUCKETS]
    return StepMemory(peak, {kind: parts[kind] for kind in KINDS if parts.get(kind)})


def _count_later_step(decoder: Decoder, step: StepShape) -> LiveBytes:
    """Counts the optimizer's part of a step and the next one's last micro-batch, with all that earlier ones left.

    Lightning lets go of the last step's gradients between the first micro-batch's forward and backward passes; a later
    micro-batch holds gradients throughout, and so holds at least as much.
    """
    optimizer = build_optimizer(OptimizerConfig(), decoder)
    with _KindsOfBytes(decoder) as counted, torch.autograd.set_multithreading_enabled(False):
        if step.sharded_over is None:
            for parameter in decoder.parameters():
                parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
        else:
            _run_micro_batch(decoder, step, counted, _nothing)  # FSDP2 makes some of its buffers in the first
        counted.count_gradients()
        counted.kind = MOMENTS
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        _run_micro_batch(decoder, step, counted, optimizer.zero_grad if step.accumulation == 1 else _nothing)
    return counted


class _KindsOfBytes(LiveBytes):
    """Tells weights in another form from results, and FSDP2's sums of gradients from other results of backward."""

    def __init__(self, decoder: nn.Module):
        super().__init__()
        self.parameters = list(decoder.parameters())
        for parameter in self.parameters:
            self.count(parameter, WEIGHTS)
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(lambda p: self.count(p.grad, GRADIENTS))
        self._weights = {id(p) for p in self.parameters}

    def count_gradients(self) -> None:
        """Counts all gradients as such."""
        for parameter in self.parameters:
            if parameter.grad is not None:
                self.count(parameter.grad, GRADIENTS)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Runs the operation, counts what it returns, and names what only this operation makes."""
        found = super().__torch_dispatch__(func, types, args, kwargs)
        name = func.name()
        if name == "aten::_to_copy" and id(args[0]) in self._weights:
            self.count(found, COPIES)
        elif name == "c10d::_allgather_base_":
            self.count(args[0], COPIES)
        elif name == "c10d::_reduce_scatter_base_":
            self.count(args[0], GRADIENTS)
        return found


@contextmanager
def _mesh(step: StepShape) -> Iterator[Any]:
    """The mesh to shard over, of ranks that exist in name only; None where nothing is sharded."""
    if step.sharded_over is None:
        yield None
        return
    from torch.distributed import destroy_process_group, init_process_group
    from torch.distributed.device_mesh import init_device_mesh

    ranks, copies = step.sharded_over * step.replicate_size, step.replicate_size
    init_process_group("fake", rank=0, world_size=ranks)
    try:
        if copies == 1:
            yield init_device_mesh("cpu", (ranks,), mesh_dim_names=("shard",))
        else:
            yield init_device_mesh("cpu", (copies, step.sharded_over), mesh_dim_names=("replicate", "shard"))
    finally:
        destroy_process_group()


def _decoder(config: DecoderConfig, step: StepShape, mesh: Any) -> Decoder:
    """As `LanguageModel.configure_model` builds it, uncompiled and on the meta device."""
    with torch.device("meta"):
        decoder = Decoder(config)
    checkpoint_activations(decoder, step.activation_checkpointing)
    if mesh is not None:
        shard(decoder, mesh, step.precision)
    return decoder


def _run_micro_batch(
    decoder: Decoder, step: StepShape, counted: LiveBytes, before_backward: Callable[[], None]
) -> None:
    """Forward, `before_backward`, backward."""

    def read(hidden: Tensor, head: nn.Linear) -> Any:
        counted.kind = LOSS
        return read_loss(ids, step.z_loss_weight)(hidden, head)

    counted.kind = ACTIVATIONS
    ids = torch.zeros(step.micro_batch_size, step.sequence_length, dtype=torch.int64)
    positions = torch.zeros_like(ids) if step.separate_documents else None
    # As Lightning: what autocast makes of a weight is not kept for the next product with it.
    with torch.autocast("cpu", torch.bfloat16, enabled=step.precision == "bf16-mixed", cache_enabled=False):
        loss = decoder(ids, positions, read=read).total / ids.numel()
    before_backward()
    counted.kind = BACKWARD
    loss.backward()


def _nothing() -> None:
    pass

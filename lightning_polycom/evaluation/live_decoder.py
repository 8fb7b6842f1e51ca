"""Borrows a decoder that may be in the middle of its training, and leaves it as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from lightning_polycom.errors import InputError

AUTOCAST = {"fp32": False, "bf16": True}


@contextmanager
def borrowed(decoder: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients inside the block; afterwards every submodule has its own mode again.

    Compiled blocks run eagerly: nearly every batch has its own shape, and each would be compiled.

    `no_grad` rather than `inference_mode`, because tensors made in inference mode must not meet autograd later, and
    FSDP2 keeps gathered parameters between forward passes.
    """
    modes = [(module, module.training) for module in decoder.modules()]
    decoder.eval()
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module, training in modes:
            module.training = training
        if isinstance(decoder, FSDPModule):
            # FSDP2 keeps the root gathered after a forward pass without a backward pass.
            decoder.reshard()


def forward(decoder: nn.Module, input_ids: Tensor, precision: str, **arguments: Any) -> Any:
    """The decoder's own forward pass over (batch, sequence) int64, under bf16 autocast if `precision` is "bf16".

    No cast weights are cached: an autocast around the training step must not reuse casts made without gradients.
    """
    enabled = AUTOCAST[precision]
    with torch.autocast(input_ids.device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False):
        return decoder(input_ids, **arguments)


def evaluation_precision(trainer_precision: str) -> str:
    """The adapter's precision for a Trainer's: bf16 for any bf16 training, else fp32."""
    return "bf16" if "bf16" in trainer_precision else "fp32"


def placed(decoder: nn.Module, device: str | None) -> nn.Module:
    """The decoder on the named device, or on a GPU if there is one.

    Raises:
        InputError: no such device.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return decoder.to(device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device: cannot use '{device}' ({str(error).splitlines()[0]})") from error

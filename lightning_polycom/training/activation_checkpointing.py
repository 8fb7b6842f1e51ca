"""Activation checkpointing: which blocks keep their intermediate results for backward, and which compute them again."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from lightning_polycom.errors import InputError
from lightning_polycom.model import Decoder

ActivationCheckpointing = Literal["none", "full", "selective"] | int

# The dear operations: matrix products and attention. Their results are kept, everything else is computed again.
KEPT_OPERATIONS = frozenset(
    {
        torch.ops.aten.mm.default,
        torch.ops.aten.addmm.default,
        torch.ops.aten.bmm.default,
        torch.ops.lightning_polycom.grouped_rows.default,
        torch.ops.aten._scaled_dot_product_flash_attention.default,
        torch.ops.aten._scaled_dot_product_efficient_attention.default,
        torch.ops.aten._scaled_dot_product_cudnn_attention.default,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    }
)


def require_known(choice: ActivationCheckpointing) -> None:
    """Checks the option before anything is built.

    Raises:
        InputError: a number of blocks below 1.
    """
    if isinstance(choice, int) and choice < 1:
        raise InputError(f"model.activation_checkpointing: found {choice}; give none, full, selective or n >= 1")


def checkpoint_activations(decoder: Decoder, choice: ActivationCheckpointing) -> None:
    """Makes blocks compute their intermediate results again in backward; weights, gradients and names stay the same.

    `none` keeps everything, `full` recomputes every block from its input, n every n-th block, `selective` everything
    but matrix products and attention. In place and before compilation and sharding: the block's forward is replaced,
    so that a compiled block contains it and FSDP2's hooks, which gather the weights, stay outside.
    """
    if choice == "none":
        return
    interval = choice if isinstance(choice, int) else 1
    options = {"context_fn": _keep_products} if choice == "selective" else {}
    for number, block in enumerate(decoder.blocks, start=1):
        if number % interval == 0:
            block.forward = _recomputed(block, options)


def _recomputed(block: nn.Module, options: dict[str, Any]) -> Callable:
    forward = block.forward

    def recomputed(*inputs: Any) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return forward(*inputs)
        return checkpoint(forward, *inputs, use_reentrant=False, **options)

    return recomputed


def _policy(_context: Any, operation: Any, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in KEPT_OPERATIONS else CheckpointPolicy.PREFER_RECOMPUTE


_keep_products = partial(create_selective_checkpoint_contexts, _policy)

"""Records where a run's weights began, so that runs can be shown to have begun alike."""

import hashlib
from typing import Any

import lightning as L
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from lightning_polycom.callbacks.run_record import add_to_record

KEY = "initial_weights_digest"  # of checkpoints and of run.json


class InitialDigest(L.Callback):
    """Writes run.json's `initial_weights_digest`: a hash of all parameters outside the feed-forwards at step 0.

    A resumed run takes it from its checkpoint; it is null where that has none.
    """

    def __init__(self) -> None:
        self._digest: str | None = None

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Takes the checkpoint's."""
        self._digest = checkpoint.get(KEY)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hashes at step 0, and writes. Collective under FSDP2, where weights have to be gathered."""
        if trainer.global_step == 0:
            self._digest = common_digest(pl_module.decoder, trainer.is_global_zero)
        add_to_record(trainer, {KEY: self._digest})

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Leaves it in the checkpoint."""
        checkpoint[KEY] = self._digest


def is_common(name: str) -> bool:
    """Whether decoders that differ in the feed-forward alone both have the parameter; routers are not of one arm."""
    return ".feed_forward." not in name or ".router." in name


@torch.no_grad()
def common_digest(decoder: nn.Module, is_first_rank: bool = True) -> str | None:
    """SHA-256 over names, shapes and values of the common parameters, in the order of their names, on the first rank.

    One parameter at a time is brought to the CPU. Other ranks only take part in gathering it, and get None.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(decoder.named_parameters()):
        if not is_common(name):
            continue
        values = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        if is_first_rank:
            digest.update(f"{name} {tuple(values.shape)}".encode())
            digest.update(values.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest() if is_first_rank else None

"""Callbacks that spoil chosen optimizer steps of a run, undo them in another way, and write down every step's state."""

import hashlib
import json
from pathlib import Path

import lightning as L
import torch
from torch.utils._python_dispatch import TorchDispatchMode


def states(module) -> list[torch.Tensor]:
    """This rank's weights, moments and steps, and as many of them as there are yet."""
    optimizer = module.optimizers(use_pl_optimizer=False)
    parameters = list(module.parameters())
    kept = [value for p in parameters for _, value in sorted(optimizer.state.get(p, {}).items())]
    return [getattr(tensor.detach(), "_local_tensor", tensor.detach()) for tensor in (*parameters, *kept)]


class Poison(L.Callback):
    """Multiplies the last hidden states by `factor` in optimizer steps `steps`, or only its gradient.

    On one rank only if `rank` says so; there in the last micro-batch only.
    """

    def __init__(self, steps: list[int], factor: float, rank: int = -1, in_gradient: bool = False):
        self.steps, self.factor, self.rank, self.in_gradient = steps, factor, rank, in_gradient

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.handle = None
        is_last = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if trainer.global_step + 1 in self.steps and self.rank in (-1, trainer.global_rank) and is_last:
            norm = pl_module.decoder.norm
            self.handle = norm.register_forward_hook(self._spoil)

    def on_train_batch_end(self, *_):
        if self.handle is not None:
            self.handle.remove()

    def _spoil(self, _module, _inputs, output):
        if not self.in_gradient:
            return output * self.factor
        output.register_hook(lambda gradient: gradient * self.factor)
        return output


class PoisonReduced(L.Callback):
    """Multiplies the gradients of rank `rank` after they were reduced, as a device that errs would."""

    def __init__(self, steps: list[int], factor: float, rank: int):
        self.steps, self.factor, self.rank = steps, factor, rank

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step + 1 in self.steps and trainer.global_rank == self.rank:
            for parameter in pl_module.parameters():
                getattr(parameter.grad, "_local_tensor", parameter.grad).mul_(self.factor)


class Undo(L.Callback):
    """Puts weights, moments and Adam's steps back to what they were before each of the optimizer steps `steps`."""

    def __init__(self, steps: list[int]):
        self.steps, self.before = steps, None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step + 1 in self.steps and self.before is None:
            self.before = [tensor.clone() for tensor in states(pl_module)]

    def on_train_batch_end(self, trainer, pl_module, *_):
        if trainer.global_step in self.steps and self.before is not None:
            with torch.no_grad():
                for tensor, value in zip(states(pl_module), self.before, strict=True):
                    tensor.copy_(value)
            self.before = None


class Digests(L.Callback):
    """Writes <folder>/rank-<r>.json: after each optimizer step, a digest of this rank's state, and its host syncs."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_train_start(self, trainer, pl_module):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.found, self.syncs = {}, {}

    def on_train_batch_start(self, *_):
        self.mode = CountHostReads()
        self.mode.__enter__()

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.mode.__exit__(None, None, None)
        digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in states(pl_module))).hexdigest()
        self.found[trainer.global_step] = digest
        self.syncs[trainer.global_step] = self.syncs.get(trainer.global_step, 0) + self.mode.count
        (self.folder / f"rank-{trainer.global_rank}.json").write_text(json.dumps([self.found, self.syncs]))


class CountHostReads(TorchDispatchMode):
    """Counts what would make a host wait for its GPU: .item(), .tolist(), bool(tensor), nonzero, copies to the CPU."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function._schema.name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal"):
            self.count += 1
        return function(*args, **(kwargs or {}))

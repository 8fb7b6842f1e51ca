"""A save that is written while training goes on, from a copy of the state."""

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


class Save:
    """One checkpoint on its way to the disk.

    `trainer.save_checkpoint` takes it as `storage_options` and so brings it to what writes the checkpoint's kind,
    which calls `run` in the processes that write. Problems are kept, not raised, until all ranks can agree on them.

    Args:
        background: Whether `run` returns when the state is copied; else when it is written.
        group: The processes that a sharded checkpoint's writers agree in, or None for all. Those of the background
            need a group of their own: training's collectives go on beside them.
        then: Called without arguments when the checkpoint is complete.

    Attributes:
        problem: What went wrong, once `is_done`.
    """

    def __init__(self, background: bool, then: Callable[[], None], group: torch.distributed.ProcessGroup | None = None):
        self.group, self.problem = group, None
        self._background, self._then = background, then
        self._thread: threading.Thread | None = None

    def run(self, write: Callable[[dict[str, Any]], None], checkpoint: dict[str, Any]) -> None:
        """Calls `write` with the checkpoint or, in the background, with a copy of it."""
        if not self._background:
            self._write(write, checkpoint)
            return
        thread = threading.Thread(target=self._write, args=(write, copied(checkpoint)), name="checkpoint")
        thread.start()
        self._thread = thread  # not before: a signal may come while it starts, and one not started cannot be waited for

    @property
    def is_done(self) -> bool:
        """Whether this process has nothing left to write."""
        return self._thread is None or not self._thread.is_alive()

    def wait(self) -> None:
        """Returns when it is done."""
        if self._thread is not None:
            self._thread.join()

    def _write(self, write: Callable[[dict[str, Any]], None], checkpoint: dict[str, Any]) -> None:
        try:
            write(checkpoint)
            self._then()
        except BaseException as error:  # of a thread, nobody else would hear
            self.problem = error


def copied(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint with all tensors in CPU memory of their own, and nothing shared with what training changes.

    Tensors that are one remain one. DTensors keep their mesh and placements; only this rank's shard is copied.
    """
    copies: dict[int, Any] = {}
    by_memory: dict[tuple, Tensor] = {}
    tensors = {id(tensor): tensor for tensor in _tensors(checkpoint)}
    for number, tensor in tensors.items():
        copies[number] = _copied_once(tensor, by_memory)
    for device in {tensor.device for tensor in tensors.values()} - {torch.device("cpu")}:
        torch.accelerator.synchronize(device)
    return copy.deepcopy(checkpoint, copies)


def _copied_once(tensor: Tensor, by_memory: dict[tuple, Tensor]) -> Tensor:
    """A copy, or another view of the copy of the same memory: tied weights come as two tensors."""
    # From a GPU without blocking, which copies into pinned memory, at the speed of the bus.
    if isinstance(tensor, DTensor):
        return tensor.detach().to("cpu", copy=True, non_blocking=True)
    memory = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
    if memory not in by_memory or not tensor.numel():
        by_memory[memory] = tensor.detach().to("cpu", copy=True, non_blocking=True)
    return by_memory[memory].detach()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)

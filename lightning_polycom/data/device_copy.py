"""Batches on their way to a GPU, on a stream of their own, so that the copy takes no time from the model.

Lightning's own transfer of such a batch then finds every tensor on its device and does nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

Step = list[dict[str, Any]]  # micro-batches


class Sent(NamedTuple):
    """Batches whose copies are queued, and the event that comes after them."""

    step: Step
    done: torch.cuda.Event


class DeviceCopy:
    """Copies batches to one CUDA device; `send` may run in another thread than `receive`."""

    def __init__(self, device: torch.device):
        self.device, self._stream = device, torch.cuda.Stream(device)

    def send(self, step: Step) -> Sent:
        """Pins the tensors and queues their copies."""
        with torch.cuda.stream(self._stream):
            # torch keeps pinned memory until the copies that read it are done.
            moved = map_tensors(step, lambda x: x.contiguous().pin_memory().to(self.device, non_blocking=True))
            return Sent(moved, self._stream.record_event())

    def receive(self, sent: Sent) -> Step:
        """The batches, safe to use on the current stream from here on."""
        current = torch.cuda.current_stream(self.device)
        current.wait_event(sent.done)
        # The memory belongs to the side stream, which must not reuse it before the current one has read it.
        map_tensors(sent.step, lambda x: x.record_stream(current))
        return sent.step


def map_tensors(step: Step, function: Callable[[Tensor], Any]) -> Step:
    """The batches with `function` of every tensor in its place; other values stay."""
    return [{k: function(x) if isinstance(x, Tensor) else x for k, x in batch.items()} for batch in step]

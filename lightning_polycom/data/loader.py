"""The training stream prepared ahead of the model: by one thread, and if asked for by worker processes before it."""

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lightning_polycom.data.batches import TrainingStream
from lightning_polycom.data.device_copy import DeviceCopy, Step
from lightning_polycom.data.prefetch import Prefetched
from lightning_polycom.errors import InputError


class BatchLoader:
    """The micro-batches of a training stream, the same ones in the same order whoever prepares them.

    While the model computes a step, the thread prepares the next one whole, and on a GPU copies it there. One more is
    ready: memory is bounded by three steps of tokens, and by two more for each worker process. What was prepared ahead
    is no progress: where a run goes on is counted in optimizer steps.

    Args:
        stream: What is loaded.
        device: Where the tensors are needed; they are copied to a CUDA device, and left where they are otherwise.
        num_workers: Worker processes that make every num_workers-th step each; with 0 the thread makes them.

    Attributes:
        wait_seconds: Time that training has spent waiting for batches.
    """

    def __init__(self, stream: TrainingStream, device: torch.device, num_workers: int = 0):
        self.stream, self.device, self.num_workers = stream, device, num_workers
        self.wait_seconds = 0.0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        copy = DeviceCopy(self.device) if self.device.type == "cuda" else None
        steps = _made_by_workers(self.stream, self.num_workers) if self.num_workers else self.stream.steps()
        prefetched = Prefetched(steps if copy is None else map(copy.send, steps))
        try:
            while True:
                started = time.perf_counter()
                step = next(prefetched)
                self.wait_seconds += time.perf_counter() - started
                yield from step if copy is None else copy.receive(step)
        finally:
            prefetched.close()


class _WorkerSteps(IterableDataset):
    """In each worker process its share of the steps; an InputError is an item, so that it stays the line that it is."""

    def __init__(self, stream: TrainingStream):
        self.stream = stream

    def __iter__(self) -> Iterator[Step | InputError]:
        worker = get_worker_info()
        try:
            yield from self.stream.steps(worker.id, worker.num_workers)
        except InputError as error:
            yield error


def _made_by_workers(stream: TrainingStream, num_workers: int) -> Iterator[Step]:
    """The steps in order: torch takes one from each worker in turns. Starts them here and now, not in a thread."""
    # With a generator of its own, the run's random numbers are those of a run without workers.
    loader = DataLoader(_WorkerSteps(stream), None, num_workers=num_workers, generator=torch.Generator())
    return _raising(iter(loader))


def _raising(steps: Iterator[Step | InputError]) -> Iterator[Step]:
    try:
        for step in steps:
            if isinstance(step, InputError):
                raise step
            yield step
    finally:
        del steps  # the workers end with it; an error's traceback would keep it

"""Token windows as batches: the endless training stream and the finite validation windows of one rank.

A batch is a dict: `input_ids` and `labels`, int64 (micro_batch_size, sequence_length), labels being the inputs one
token later; a training batch also has `num_step_targets`, the number of targets in the whole optimizer step, over all
ranks and micro-batches, by which the loss is divided.

With documents kept apart a batch also has `positions`, int64 of the same shape, which count from 0 in each document,
and the label of an end-of-text token is IGNORE_INDEX. How many targets are left depends on the tokens, and a rank
reads only its own: a training batch then has `num_rank_targets`, those of this rank's share of the step, in place of
`num_step_targets`, their sum over ranks.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lightning_polycom.data.documents import separate_documents
from lightning_polycom.data.mixture import MixtureOrder
from lightning_polycom.data.order import SampleOrder
from lightning_polycom.data.shards import TokenShards
from lightning_polycom.errors import InputError

IGNORE_INDEX = -100  # torch's own default for targets that do not count


@dataclass(frozen=True)
class BatchPlan:
    """How a global batch is cut: `accumulation` micro-batches on each of `world_size` ranks.

    Raises:
        InputError: the global batch is no multiple of micro_batch_size * world_size.
    """

    global_batch_size: int
    micro_batch_size: int
    world_size: int

    def __post_init__(self) -> None:
        for name in ("global_batch_size", "micro_batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"data.{name}: found {getattr(self, name)}; it must be at least 1")
        if self.global_batch_size % (self.micro_batch_size * self.world_size):
            raise InputError(
                f"data.global_batch_size: {self.global_batch_size} is no multiple of micro_batch_size "
                f"{self.micro_batch_size} x {self.world_size} ranks; change one of them"
            )

    @property
    def accumulation(self) -> int:
        """Micro-batches per rank and optimizer step."""
        return self.global_batch_size // (self.micro_batch_size * self.world_size)


class TrainingStream:
    """One rank's share of the global sample stream, endless, starting at any global sample position.

    Step t of any run trains on samples [t * global_batch_size, (t + 1) * global_batch_size) of the order, whatever
    the micro-batch and the number of ranks.
    """

    def __init__(
        self,
        shards: TokenShards,
        order: SampleOrder | MixtureOrder,
        sequence_length: int,
        plan: BatchPlan,
        rank: int,
        start: int,
        separate_documents: bool = False,
    ):
        self.shards, self.order, self.sequence_length = shards, order, sequence_length
        self.plan, self.rank, self.start = plan, rank, start
        self.separate_documents = separate_documents
        self.wait_seconds = 0.0  # time that training spent waiting for batches

    def __iter__(self) -> Iterator[dict[str, Any]]:
        position, plan = self.start, self.plan
        while True:
            firsts = [
                position + (part * plan.world_size + self.rank) * plan.micro_batch_size
                for part in range(plan.accumulation)
            ]
            yield from self._separated(firsts) if self.separate_documents else map(self._batch, firsts)
            position += plan.global_batch_size

    def _batch(self, first: int) -> dict[str, Any]:
        started = time.perf_counter()
        starts = self.order.starts(first, self.plan.micro_batch_size, self.sequence_length)
        tokens = self.shards.read_batch(starts, self.sequence_length + 1)
        batch: dict[str, Any] = _shift(torch.from_numpy(tokens))
        if self.separate_documents:
            separate_documents(batch, batch["input_ids"] == self.shards.eos_token_id, IGNORE_INDEX)
        else:
            batch["num_step_targets"] = self.plan.global_batch_size * self.sequence_length
        self.wait_seconds += time.perf_counter() - started
        return batch

    def _separated(self, firsts: list[int]) -> Iterator[dict[str, Any]]:
        """This rank's micro-batches of one step, all read before the first is given, to count their targets."""
        batches = [self._batch(first) for first in firsts]
        count = sum(int((batch["labels"] != IGNORE_INDEX).sum()) for batch in batches)
        return ({**batch, "num_rank_targets": count} for batch in batches)


class ValidationWindows:
    """One rank's share of a domain's windows, each of them scored exactly once over all ranks.

    Windows do not overlap. With `max_tokens` they are spread evenly over the domain, so that a limit does not mean its
    first documents, and rounded up to whole windows. The domain's last window and the rows that fill up the last batch
    are padded with IGNORE_INDEX labels, so that every rank makes the same number of steps.
    """

    def __init__(
        self,
        shards: TokenShards,
        sequence_length: int,
        batch_size: int,
        rank: int,
        world_size: int,
        max_tokens: int | None,
        separate_documents: bool = False,
    ):
        self.separate_documents = separate_documents
        self.shards, self.sequence_length, self.batch_size = shards, sequence_length, batch_size
        self.rank, self.world_size = rank, world_size
        self._available = -(-(shards.num_tokens - 1) // sequence_length)
        self._used = min(self._available, -(-(max_tokens or shards.num_tokens) // sequence_length))

    def __len__(self) -> int:
        return -(-self._used // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for round_ in range(len(self)):
            first = (round_ * self.world_size + self.rank) * self.batch_size
            windows = [self._window(first + row) for row in range(self.batch_size)]
            batch = {key: torch.stack([window[key] for window in windows]) for key in windows[0]}
            if self.separate_documents:
                # The padding's id may be that of the end of text; it has no label.
                ends = (batch["input_ids"] == self.shards.eos_token_id) & (batch["labels"] != IGNORE_INDEX)
                separate_documents(batch, ends, IGNORE_INDEX)
            yield batch

    def _window(self, number: int) -> dict[str, torch.Tensor]:
        tokens, length = torch.zeros(self.sequence_length + 1, dtype=torch.int64), 0
        if number < self._used:
            start = number * self._available // self._used * self.sequence_length
            length = min(self.sequence_length, self.shards.num_tokens - 1 - start)
            tokens[: length + 1] = torch.from_numpy(self.shards.read(start, length + 1).astype(np.int64))
        window = _shift(tokens)
        window["labels"][length:] = IGNORE_INDEX
        return window


def _shift(tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """Inputs and next-token labels from windows one token longer."""
    return {"input_ids": tokens[..., :-1], "labels": tokens[..., 1:].clone()}

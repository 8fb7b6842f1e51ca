"""Token windows as batches: the endless training stream and the finite validation windows of one rank.

A batch is a dict: `input_ids` and `labels`, int64 (micro_batch_size, sequence_length), labels being the inputs one
token later; a training batch also has `num_step_targets`, the number of targets in the whole optimizer step, over all
ranks and micro-batches, by which the loss is divided, and `samples_hash`, an int (`data.stream_hash`). Inputs and
labels may be views of the same memory, which is to be read only.

With documents kept apart a batch also has `positions`, int64 of the same shape, which count from 0 in each document,
and the label of an end-of-text token is IGNORE_INDEX. With repetitions masked it also has `num_masked_sequences`, and
all labels of so many rows are IGNORE_INDEX. In both cases how many targets are left depends on the tokens, and a rank
reads only its own: a training batch then has `num_rank_targets`, those of this rank's share of the step, in place of
`num_step_targets`, their sum over ranks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch

from lightning_polycom.data.documents import separate_documents
from lightning_polycom.data.mixture import MixtureOrder
from lightning_polycom.data.order import SampleOrder
from lightning_polycom.data.repetition import repeated_rows
from lightning_polycom.data.shards import TokenShards
from lightning_polycom.data.stream_hash import samples_hash
from lightning_polycom.errors import InputError

IGNORE_INDEX = -100  # torch's own default for targets that do not count

_STARTS_AT_ONCE = 1024  # samples: their order costs as many numpy calls as that of one


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
        mask_repetitions: bool = False,
    ):
        self.shards, self.order, self.sequence_length = shards, order, sequence_length
        self.plan, self.rank, self.start = plan, rank, start
        self.separate_documents, self.mask_repetitions = separate_documents, mask_repetitions

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return chain.from_iterable(self.steps())

    def steps(self, first: int = 0, stride: int = 1) -> Iterator[list[dict[str, Any]]]:
        """This rank's micro-batches of every `stride`-th optimizer step, counted from the start, `first` one on."""
        whole = not (self.separate_documents or self.mask_repetitions)
        for positions, starts in self._samples(first, stride):
            if whole:
                yield [self._whole(*rows) for rows in zip(positions, starts, strict=True)]
            else:
                yield self._masked_step(positions, starts)

    def _samples(self, first: int, stride: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Places in the stream and first tokens of this rank's samples in each of the steps.

        Both are int64 (accumulation, micro_batch_size).
        """
        plan = self.plan
        parts = np.arange(plan.accumulation)[:, None] * plan.world_size + self.rank
        samples = parts * plan.micro_batch_size + np.arange(plan.micro_batch_size)
        steps = first + stride * np.arange(max(1, _STARTS_AT_ONCE // samples.size))
        while True:
            positions = self.start + steps[:, None, None] * plan.global_batch_size + samples
            starts = self.order.starts(positions.reshape(-1), self.sequence_length).reshape(positions.shape)
            yield from zip(positions, starts, strict=True)
            steps += stride * len(steps)

    def _whole(self, positions: np.ndarray, starts: np.ndarray) -> dict[str, Any]:
        """A micro-batch in which every label counts."""
        tokens = self.shards.read_batch(starts, self.sequence_length + 1)
        counts = {
            "num_step_targets": self.plan.global_batch_size * self.sequence_length,
            "samples_hash": samples_hash(positions, tokens),
        }
        tokens = torch.from_numpy(tokens)
        return {"input_ids": tokens[:, :-1], "labels": tokens[:, 1:], **counts}

    def _masked_step(self, positions: np.ndarray, starts: np.ndarray) -> list[dict[str, Any]]:
        """A step's micro-batches, all read before the first is given, to count their targets."""
        batches = [self._masked(*rows) for rows in zip(positions, starts, strict=True)]
        count = sum(int(np.count_nonzero(batch["labels"].numpy() != IGNORE_INDEX)) for batch in batches)
        return [{**batch, "num_rank_targets": count} for batch in batches]

    def _masked(self, positions: np.ndarray, starts: np.ndarray) -> dict[str, Any]:
        """A micro-batch with the labels taken out that the options ask for."""
        # Compared as they are on disk, which takes a quarter of the bytes or half of them.
        tokens = self.shards.read_batch(starts, self.sequence_length + 1, self.shards.dtype)
        inputs = tokens[:, :-1]
        batch = {"input_ids": inputs.astype(np.int64), "labels": tokens[:, 1:].astype(np.int64)}
        if self.separate_documents:
            separate_documents(batch, inputs == self.shards.eos_token_id, IGNORE_INDEX)
        counts = {}
        if self.mask_repetitions:
            repeated = repeated_rows(inputs)
            batch["labels"][repeated] = IGNORE_INDEX
            counts["num_masked_sequences"] = int(np.count_nonzero(repeated))
        counts["samples_hash"] = samples_hash(positions, batch["input_ids"], batch["labels"])
        return {**_tensors(batch), **counts}


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
            tokens = np.zeros((self.batch_size, self.sequence_length + 1), np.int64)
            labels = np.full((self.batch_size, self.sequence_length), IGNORE_INDEX)
            for row in range(min(self.batch_size, self._used - first)):
                start, length = self._window(first + row)
                tokens[row, : length + 1] = self.shards.read(start, length + 1)
                labels[row, :length] = tokens[row, 1 : length + 1]
            batch = {"input_ids": tokens[:, :-1], "labels": labels}
            if self.separate_documents:
                # The padding's id may be that of the end of text; it has no label.
                ends = (batch["input_ids"] == self.shards.eos_token_id) & (labels != IGNORE_INDEX)
                separate_documents(batch, ends, IGNORE_INDEX)
            yield _tensors(batch)

    def _window(self, number: int) -> tuple[int, int]:
        """Where a window that is used begins, and how many inputs it has."""
        start = number * self._available // self._used * self.sequence_length
        return start, min(self.sequence_length, self.shards.num_tokens - 1 - start)


def _tensors(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in batch.items()}

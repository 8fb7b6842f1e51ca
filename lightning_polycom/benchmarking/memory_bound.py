"""Whether a candidate's training step has room in a CPU's memory, found out without running it.

A GPU says so itself, by an error; a system without memory ends processes, and not always the one that took it.
"""

from dataclasses import dataclass

import torch

from lightning_polycom.benchmarking.available_memory import available_memory_bytes
from lightning_polycom.benchmarking.candidates import Candidate
from lightning_polycom.data.datamodule import TokenDataModule
from lightning_polycom.training.module import LanguageModel
from lightning_polycom.training.peak_memory import peak_memory_bytes
from lightning_polycom.training.step_memory import StepShape, Uncountable, count_step_memory


@dataclass(frozen=True)
class MemoryBound:
    """What there is for a process, and what one takes before its first tensor, in bytes."""

    available: int
    process: int

    @classmethod
    def of_this_machine(cls) -> "MemoryBound":
        """As it is now; this process has imported what a run imports."""
        return cls(available_memory_bytes(), peak_memory_bytes(torch.device("cpu")))

    def refusal(self, model: LanguageModel, data: TokenDataModule, candidate: Candidate, sequences: int) -> str | None:
        """Why a step of the candidate is not tried; None if it has room.

        Args:
            model: The run's.
            data: The run's.
            candidate: Settings in place of theirs.
            sequences: Of an optimizer step.
        """
        size = candidate.micro_batch_size
        shape = StepShape(
            size,
            data.sequence_length,
            min(2, sequences // size),  # later micro-batches hold what the second one holds
            data.separate_documents,
            candidate.precision,
            model.activation_checkpointing,
            model.z_loss_weight,
        )
        try:
            needed = self.process + count_step_memory(model.decoder_config, shape).peak
        except Uncountable:
            larger = size > data.micro_batch_size
            return "its memory is not known before a run, and it is larger than the run's own" if larger else None
        if needed <= self.available:
            return None
        return f"needs about {needed / 2**30:,.1f} GiB, {self.available / 2**30:,.1f} GiB are available"

"""A candidate's memory against what there is, counted on the real decoder."""

from types import SimpleNamespace

from lightning_polycom.benchmarking import memory_bound
from lightning_polycom.benchmarking.candidates import Candidate
from lightning_polycom.benchmarking.memory_bound import MemoryBound
from lightning_polycom.model import DecoderConfig
from lightning_polycom.training.module import LanguageModel
from lightning_polycom.training.step_memory import StepShape, Uncountable, count_step_memory

CONFIG = DecoderConfig(64, 16, 1, 2, 32)
MODEL = LanguageModel(CONFIG)
DATA = SimpleNamespace(sequence_length=32, separate_documents=False, micro_batch_size=4)


def candidate(size: int) -> Candidate:
    return Candidate("32-true", False, size)


def test_what_has_no_room_is_not_tried():
    needed = 2**20 + count_step_memory(CONFIG, StepShape(4, 32, 2)).peak
    assert MemoryBound(needed, 2**20).refusal(MODEL, DATA, candidate(4), 8) is None
    refusal = MemoryBound(needed - 1, 2**20).refusal(MODEL, DATA, candidate(4), 8)
    assert refusal == "needs about 0.0 GiB, 0.0 GiB are available"
    # A micro-batch that is the whole step holds no gradients in its forward pass.
    assert MemoryBound(needed - 1, 2**20).refusal(MODEL, DATA, candidate(4), 4) is None


def test_a_decoder_that_cannot_be_counted_is_tried_up_to_the_size_of_its_run(monkeypatch):
    def uncountable(config: DecoderConfig, shape: StepShape) -> None:
        raise Uncountable("aten::item")

    monkeypatch.setattr(memory_bound, "count_step_memory", uncountable)
    bound = MemoryBound(1, 1)
    assert bound.refusal(MODEL, DATA, candidate(4), 8) is None
    assert "larger than the run's own" in bound.refusal(MODEL, DATA, candidate(8), 8)


def test_this_machine_has_room_for_a_process():
    found = MemoryBound.of_this_machine()
    assert found.available > 2**20 and found.process > 2**20

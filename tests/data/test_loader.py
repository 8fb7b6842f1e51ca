"""One stream, whoever prepares it: the loop itself, a thread, or worker processes."""

import itertools
import multiprocessing
import pickle
import shutil
import threading
import time

import numpy as np
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from lightning_polycom.data import SampleOrder, open_shards
from lightning_polycom.data.batches import BatchPlan, TrainingStream
from lightning_polycom.data.device_copy import map_tensors
from lightning_polycom.data.loader import BatchLoader
from lightning_polycom.errors import InputError

LENGTH, MICRO, CPU = 48, 2, torch.device("cpu")
OPTIONS = {"separate_documents": True, "mask_repetitions": True}


def stream(prepared, accumulation: int = 1, rank: int = 0, world: int = 1, start: int = 0, **options) -> TrainingStream:
    shards = open_shards(prepared, "train")
    order = SampleOrder((shards.num_tokens - 1) // LENGTH, 3, shards.fingerprint)
    plan = BatchPlan(accumulation * MICRO * world, MICRO, world)
    return TrainingStream(shards, order, LENGTH, plan, rank, start, **options)


def taken(batches, count: int) -> list[dict]:
    iterator = iter(batches)
    found = list(itertools.islice(iterator, count))
    iterator.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
    assert not multiprocessing.active_children()
    return found


def same(ours: list[dict], theirs: list[dict]) -> bool:
    return len(ours) == len(theirs) and all(
        one.keys() == other.keys()
        and all(torch.equal(torch.as_tensor(one[key]), torch.as_tensor(other[key])) for key in one)
        for one, other in zip(ours, theirs, strict=True)
    )


def by_hand(prepared, batch: int, accumulation: int, rank: int, world: int, start: int) -> np.ndarray:
    """Inputs and last targets of one micro-batch of a rank, one sample after the other."""
    shards, step, part = open_shards(prepared, "train"), *divmod(batch, accumulation)
    order = SampleOrder((shards.num_tokens - 1) // LENGTH, 3, shards.fingerprint)
    first = start + step * accumulation * MICRO * world + (part * world + rank) * MICRO
    samples = order.indices(first, MICRO).tolist()
    return np.stack([shards.read(sample * LENGTH, LENGTH + 1) for sample in samples])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than this machine has cores
@pytest.mark.parametrize("num_workers", [0, 1, 3])
@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (0, 2), (1, 2)])
def test_the_stream_is_the_same_whoever_prepares_it(prepared, num_workers, accumulation, rank, world):
    shares = (accumulation, rank, world)
    starts = np.random.default_rng([num_workers, accumulation, rank]).integers(0, 50_000, 2).tolist()
    for start, options in zip(starts, ({}, OPTIONS), strict=True):
        plain = stream(prepared, *shares, start, **options)
        expected = list(itertools.islice(plain, 11))
        assert same(taken(BatchLoader(plain, CPU, num_workers), 11), expected)
        for number in (0, 5, 10):
            tokens = by_hand(prepared, number, *shares, start)
            assert np.array_equal(expected[number]["input_ids"], tokens[:, :-1])


def test_more_samples_than_are_ordered_at_once(prepared):
    whole = list(itertools.islice(stream(prepared), 1200))
    for number in (0, 511, 512, 513, 1023, 1024, 1199):
        assert np.array_equal(whole[number]["labels"], by_hand(prepared, number, 1, 0, 1, 0)[:, 1:])
    strided = itertools.islice(stream(prepared).steps(1, 3), 400)
    assert same([step[0] for step in strided], whole[1::3][:400])


def test_no_more_than_two_steps_are_prepared_ahead(prepared, monkeypatch):
    made, steps = [], TrainingStream.steps
    monkeypatch.setattr(TrainingStream, "steps", lambda self: (made.append(step) or step for step in steps(self)))
    batches = iter(BatchLoader(stream(prepared, 4), CPU))
    for taken_steps in range(1, 4):
        for _ in range(4):
            next(batches)
        deadline = time.monotonic() + 5
        while len(made) < taken_steps + 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(made) == taken_steps + 2
    batches.close()


def test_a_stream_can_be_sent_to_a_process_after_it_was_read(prepared):
    plain = stream(prepared, **OPTIONS)
    expected = list(itertools.islice(plain, 3))
    assert same(list(itertools.islice(pickle.loads(pickle.dumps(plain)), 3)), expected)


def test_workers_leave_the_random_numbers_alone(prepared):
    before = torch.get_rng_state()
    taken(BatchLoader(stream(prepared), CPU, 1), 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_waiting_is_counted(prepared, monkeypatch):
    loader = BatchLoader(stream(prepared), CPU)
    clock = itertools.count()
    monkeypatch.setattr("lightning_polycom.data.loader.time.perf_counter", lambda: float(next(clock)))
    taken(loader, 5)
    assert loader.wait_seconds == 5.0


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_file_damaged_in_use_is_one_line(prepared, tmp_path, num_workers, damage):
    folder = tmp_path / "copy"
    shutil.copytree(prepared, folder)
    batches = stream(folder)
    for file in batches.shards.files:
        if damage == "gone":
            file.unlink()
        else:
            with file.open("r+b") as opened:
                opened.truncate(64)
    expected = "No such file" if damage == "gone" else "it ends at byte 64"
    with pytest.raises(InputError, match=expected) as caught:
        list(itertools.islice(BatchLoader(batches, CPU, num_workers), 3))
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
    assert not multiprocessing.active_children()


def test_a_loop_that_breaks_or_fails_leaves_no_thread(prepared):
    def fail():
        for _ in BatchLoader(stream(prepared), CPU):
            raise ValueError("a loop's own")

    for _ in BatchLoader(stream(prepared), CPU):
        break
    with pytest.raises(ValueError, match="a loop's own"):
        fail()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_what_is_where_it_is_needed_is_not_moved_again(prepared):
    (batch,) = taken(BatchLoader(stream(prepared, **OPTIONS), CPU), 1)
    moved = move_data_to_device(batch, CPU)
    assert moved.keys() == batch.keys() and all(moved[key] is batch[key] for key in batch)


def test_every_tensor_of_a_step_goes_to_the_device_and_counts_stay(prepared):
    step = next(stream(prepared, 2, **OPTIONS).steps())
    moved = map_tensors(step, lambda x: x.contiguous().to("meta"))
    assert len(moved) == 2
    for one, other in zip(step, moved, strict=True):
        for key, value in one.items():
            if isinstance(value, torch.Tensor):
                assert other[key].is_meta and other[key].shape == value.shape and other[key].is_contiguous()
            else:
                assert other[key] == value


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_on_a_gpu_are_those_of_the_stream(prepared, num_workers):
    device, plain = torch.device("cuda", 0), stream(prepared, 4, **OPTIONS)
    moved = taken(BatchLoader(plain, device, num_workers), 40)
    for batch in moved:
        again = move_data_to_device(batch, device)
        assert all(again[key] is batch[key] for key in batch)
    assert same([move_data_to_device(batch, CPU) for batch in moved], list(itertools.islice(plain, 40)))

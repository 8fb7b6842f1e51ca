"""A save in the background holds the state of the moment that it was asked for, whatever training does meanwhile."""

import json
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import torch

from lightning_polycom.checkpoints import single_file
from lightning_polycom.checkpoints.background import Save, copied
from lightning_polycom.checkpoints.sharded import read_joined
from lightning_polycom.checkpoints.single_file import write_file
from lightning_polycom.errors import InputError

SCRIPT = Path(__file__).with_name("save_on_ranks.py")


@pytest.fixture
def training() -> tuple[torch.nn.ModuleDict, torch.optim.Optimizer]:
    """Two tied weights and another, after a step of AdamW."""
    torch.manual_seed(0)
    module = torch.nn.ModuleDict({"embedding": torch.nn.Embedding(6, 4), "head": torch.nn.Linear(4, 6)})
    module["head"].weight = module["embedding"].weight
    return module, torch.optim.AdamW(module.parameters(), lr=0.1)


def step(module, optimizer) -> None:
    module["head"](module["embedding"](torch.tensor([1, 2, 3]))).square().sum().backward()
    optimizer.step()


def state(module, optimizer) -> dict:
    return {"state_dict": module.state_dict(), "optimizer_states": [optimizer.state_dict()], "loops": {"done": [1, 2]}}


def assert_equal(one, other) -> None:
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_equal(*pair)
    else:
        assert one == other


@pytest.fixture
def gate(monkeypatch) -> threading.Event:
    """Writing a file waits until it is set."""
    event, save = threading.Event(), torch.save

    def slow_save(*arguments):
        assert event.wait(20)
        save(*arguments)

    monkeypatch.setattr(single_file.torch, "save", slow_save)
    return event


def test_a_file_is_that_of_a_synchronous_save_though_weights_change_meanwhile(training, gate, tmp_path):
    step(*training)
    gate.set()
    write_file(state(*training), tmp_path / "synchronous.ckpt")
    gate.clear()
    checkpoint, ended = state(*training), []
    save = Save(True, partial(ended.append, "complete"))
    save.run(partial(write_file, path=tmp_path / "background.ckpt"), checkpoint)
    for _ in range(3):
        step(*training)
    checkpoint["loops"]["done"].append(3)
    assert not save.is_done and not ended and not (tmp_path / "background.ckpt").exists()
    gate.set()
    save.wait()
    assert save.is_done and save.problem is None and ended == ["complete"]
    kept, found = (torch.load(tmp_path / f"{n}.ckpt", weights_only=True) for n in ("synchronous", "background"))
    assert_equal(kept, found)
    assert not torch.equal(found["state_dict"]["head.weight"], training[0]["head"].weight)
    pointers = [found["state_dict"][f"{name}.weight"].data_ptr() for name in ("embedding", "head")]
    assert pointers[0] == pointers[1]


def test_no_memory_is_shared_with_the_copy(training):
    step(*training)
    checkpoint = state(*training)
    copy = copied(checkpoint)
    assert_equal(checkpoint, copy)
    assert type(copy["state_dict"]) is type(checkpoint["state_dict"]) and copy["state_dict"]._metadata
    ours = {t.data_ptr() for t in (*checkpoint["state_dict"].values(), *moments(checkpoint))}
    assert not ours & {t.data_ptr() for t in (*copy["state_dict"].values(), *moments(copy))}
    assert copy["loops"]["done"] is not checkpoint["loops"]["done"]


def moments(checkpoint: dict) -> list[torch.Tensor]:
    return [value for state in checkpoint["optimizer_states"][0]["state"].values() for value in state.values()]


def test_a_problem_is_kept_until_it_is_asked_for(training, tmp_path):
    ended = []
    (tmp_path / "file").write_text("in the folder's place")
    for background in (False, True):
        save = Save(background, partial(ended.append, "complete"))
        save.run(partial(write_file, path=tmp_path / "file/x.ckpt"), state(*training))
        save.wait()
        assert isinstance(save.problem, InputError) and "x.ckpt cannot be written" in str(save.problem) and not ended


def test_two_processes_write_shards_while_they_train(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(tmp_path)], env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        for process in processes:
            error = process.communicate(timeout=100)[1]
            assert process.returncode == 0, error[-3000:]
    finally:
        for process in processes:
            process.kill()
    joined = [read_joined(tmp_path / f"{name}.ckpt", with_optimizer=True) for name in ("synchronous", "background")]
    assert_equal(*joined)
    for name in ("__0_0.distcp", "__1_0.distcp"):
        one, other = (tmp_path / f"{kind}.ckpt" / name for kind in ("synchronous", "background"))
        assert one.read_bytes() == other.read_bytes()
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == {"trained_meanwhile": 3, "changed": True, "complete": [0] if rank == 0 else []}


def test_a_save_that_is_interrupted_before_its_thread_runs_is_done(monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    save = Save(True, lambda: None)
    with pytest.raises(KeyboardInterrupt):
        save.run(lambda _: None, {})
    save.wait()
    assert save.is_done

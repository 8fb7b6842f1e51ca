import threading
import time
from functools import partial
from types import SimpleNamespace

import pytest

from lightning_polycom.callbacks import StepCheckpoint
from lightning_polycom.errors import InputError


class Recorder:
    """Stands for the trainer: counts steps and writes files where it is told to, once `disk` lets it."""

    def __init__(self, root):
        self.disk = threading.Event()
        self.disk.set()
        self.broken = False
        self.default_root_dir, self.global_step, self.is_global_zero = str(root), 0, True
        self.log_every_n_steps = 2
        self.strategy = SimpleNamespace(
            broadcast=lambda value: value, reduce_boolean_decision=lambda value, all=True: value
        )

    def save_checkpoint(self, path, storage_options):
        path.parent.mkdir(exist_ok=True)
        storage_options.run(partial(self.write, path), {"step": self.global_step})

    def write(self, path, checkpoint):
        assert self.disk.wait(20)
        if self.broken:
            raise InputError(f"checkpoint: {path} cannot be written")
        path.write_text(str(checkpoint["step"]))

    def step(self, callback, steps=1):
        for _ in range(steps):
            self.global_step += 1
            callback.on_train_batch_end(self, None, None, None, 0)


def train(callback: StepCheckpoint, trainer: Recorder, steps: int, micro_batches: int = 1) -> None:
    callback.on_train_start(trainer, None)
    for _ in range(steps):
        for part in range(micro_batches):
            trainer.global_step += part == micro_batches - 1
            callback.on_train_batch_end(trainer, None, None, None, 0)
    callback.on_train_end(trainer, None)


@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize(("keep", "expected"), [(2, [6, 7]), (0, [3, 6, 7]), (1, [7])])
def test_saves_at_the_interval_and_at_the_end_and_keeps_the_newest(tmp_path, keep, expected, micro_batches):
    trainer = Recorder(tmp_path)
    train(StepCheckpoint(every_n_steps=3, keep_last=keep), trainer, 7, micro_batches)
    folder = tmp_path / "checkpoints"
    assert sorted(p.name for p in folder.glob("step-*")) == [f"step-{n:08d}.ckpt" for n in expected]
    assert (folder / "last.ckpt").is_symlink() and (folder / "last.ckpt").read_text() == "7"


def test_the_step_that_a_resume_starts_from_is_not_saved_again(tmp_path):
    trainer = Recorder(tmp_path)
    trainer.global_step = 6
    train(StepCheckpoint(every_n_steps=3), trainer, 0)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("options", [{"every_n_steps": 0}, {"keep_last": -1}])
def test_impossible_intervals_are_refused(options):
    with pytest.raises(InputError, match=r"checkpoint\."):
        StepCheckpoint(**options)


def test_permanent_checkpoints_outlive_newer_ones(tmp_path):
    trainer = Recorder(tmp_path)
    train(StepCheckpoint(every_n_steps=2, keep_last=1, keep_every_n_steps=4), trainer, 11)
    names = sorted(path.name for path in (tmp_path / "checkpoints").glob("step-*"))
    assert names == [f"step-{n:08d}.ckpt" for n in (4, 8, 11)]


@pytest.fixture
def begun(tmp_path):
    """A run that has saved step 3, and is saving step 6 on a disk that does not answer."""
    trainer, callback = Recorder(tmp_path), StepCheckpoint(every_n_steps=3, keep_last=1)
    callback.on_train_start(trainer, None)
    trainer.step(callback, 5)
    trainer.disk.clear()
    trainer.step(callback, 1)
    return trainer, callback, tmp_path / "checkpoints"


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_training_goes_on_and_the_former_checkpoint_stays_until_the_new_one_is_complete(begun, capsys):
    trainer, callback, folder = begun
    trainer.step(callback, 2)
    assert trainer.global_step == 8 and names(folder) == ["last.ckpt", "step-00000003.ckpt"]
    assert (folder / "last.ckpt").read_text() == "3"
    threading.Timer(0.2, trainer.disk.set).start()
    trainer.step(callback, 1)  # due, so it waits
    assert {"step-00000006.ckpt", "step-00000009.ckpt"} & {*names(folder)}  # the next may be complete, and 6 gone
    assert "checkpoint: step 9 waited 0." in capsys.readouterr().out
    callback.on_train_end(trainer, None)
    assert names(folder) == ["last.ckpt", "step-00000009.ckpt"] and (folder / "last.ckpt").read_text() == "9"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("where", ["at the next logged step", "at the next save", "at the end"])
def test_a_save_that_fails_ends_the_run(begun, where):
    trainer, callback, folder = begun
    trainer.broken = True
    if where == "at the next logged step":
        trainer.step(callback, 1)
        trainer.disk.set()
        while not callback._in_flight.is_done:
            time.sleep(0.001)
        act = partial(trainer.step, callback, 1)
    elif where == "at the next save":
        trainer.step(callback, 2)
        threading.Timer(0.05, trainer.disk.set).start()
        act = partial(trainer.step, callback, 1)
    else:
        threading.Timer(0.05, trainer.disk.set).start()
        act = partial(callback.on_train_end, trainer, None)
    with pytest.raises(InputError, match=r"step-00000006\.ckpt cannot be written"):
        act()
    assert names(folder) == ["last.ckpt", "step-00000003.ckpt"] and (folder / "last.ckpt").read_text() == "3"
    callback.on_exception(trainer, None, InputError("the same"))  # has nothing left to wait for


def test_an_exception_waits_for_the_save_in_flight(begun, capsys):
    trainer, callback, folder = begun
    threading.Timer(0.1, trainer.disk.set).start()
    callback.on_exception(trainer, None, RuntimeError("elsewhere"))
    assert names(folder) == ["last.ckpt", "step-00000006.ckpt"] and (folder / "last.ckpt").read_text() == "6"


def test_a_synchronous_save_is_complete_when_it_returns(tmp_path):
    trainer, callback = Recorder(tmp_path), StepCheckpoint(every_n_steps=3, asynchronous=False)
    callback.on_train_start(trainer, None)
    trainer.step(callback, 3)
    assert names(tmp_path / "checkpoints") == ["last.ckpt", "step-00000003.ckpt"]
    trainer.broken = True
    with pytest.raises(InputError, match=r"step-00000006\.ckpt cannot be written"):
        trainer.step(callback, 3)

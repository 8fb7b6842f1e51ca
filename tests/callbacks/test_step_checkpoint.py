from types import SimpleNamespace

import pytest

from lightning_polycom.callbacks import StepCheckpoint
from lightning_polycom.errors import InputError


class Recorder:
    """Stands for the trainer: counts steps and writes files where it is told to."""

    def __init__(self, root):
        self.default_root_dir, self.global_step, self.is_global_zero = str(root), 0, True
        self.log_every_n_steps = 2
        self.strategy = SimpleNamespace(broadcast=lambda value: value, reduce_boolean_decision=lambda value: value)

    def save_checkpoint(self, path, storage_options):
        path.parent.mkdir(exist_ok=True)
        storage_options.run(lambda checkpoint: path.write_text(str(checkpoint["step"])), {"step": self.global_step})


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

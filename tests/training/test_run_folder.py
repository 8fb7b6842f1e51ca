import os

import pytest

from lightning_polycom.errors import InputError
from lightning_polycom.training.run_folder import RunConfig, newest_run, resolve_run_folder


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    monkeypatch.delenv("POLYCOM_RUN_VERSION", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)


def test_a_new_run_takes_the_next_version(tmp_path, monkeypatch):
    config = RunConfig("name", str(tmp_path))
    assert resolve_run_folder(config, None) == tmp_path / "name/version_0"
    monkeypatch.delenv("POLYCOM_RUN_VERSION")
    for version in ("version_0", "version_10", "mine"):
        (tmp_path / "name" / version).mkdir(parents=True)
    assert resolve_run_folder(config, None) == tmp_path / "name/version_11"
    assert newest_run(tmp_path / "name") is None  # no checkpoint yet


def test_the_newest_run_is_the_one_that_saved_last(tmp_path):
    for seconds, version in enumerate(("version_10", "mine", "version_2")):
        checkpoint = tmp_path / version / "checkpoints/step-00000001.ckpt"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
        os.utime(checkpoint, (seconds, seconds))
    assert newest_run(tmp_path) == tmp_path / "version_2"


def test_processes_that_lightning_launches_agree(tmp_path):
    config = RunConfig("name", str(tmp_path))
    first = resolve_run_folder(config, None)
    first.mkdir(parents=True)
    assert resolve_run_folder(config, None) == first  # a child inherits the environment


def test_a_resume_continues_in_the_checkpoints_run(tmp_path):
    checkpoint = tmp_path / "name/version_3/checkpoints/step-00000001.ckpt"
    config = RunConfig("name", str(tmp_path))
    assert resolve_run_folder(config, checkpoint) == tmp_path / "name/version_3"
    named = RunConfig("name", str(tmp_path), version="other")
    assert resolve_run_folder(named, checkpoint) == tmp_path / "name/other"
    assert resolve_run_folder(RunConfig("fork", str(tmp_path)), checkpoint) == tmp_path / "fork/version_0"


def test_a_folder_that_holds_something_else_is_not_written_to(tmp_path):
    run = tmp_path / "name/version_3"
    (run / "checkpoints").mkdir(parents=True)
    (run / "run.json").touch()
    for step in (4, 12):
        (run / f"checkpoints/step-{step:08d}.ckpt").touch()
    named = RunConfig("name", str(tmp_path), version="version_3")
    with pytest.raises(InputError, match=r"run\.version: .*version_3 holds a run"):
        resolve_run_folder(named, None)
    with pytest.raises(InputError, match=r"step-00000004\.ckpt is not the newest step .*step-00000012"):
        resolve_run_folder(named, run / "checkpoints/step-00000004.ckpt")
    assert resolve_run_folder(named, run / "checkpoints/step-00000012.ckpt") == run


def test_processes_from_outside_need_a_version(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"run\.version"):
        resolve_run_folder(RunConfig("name", str(tmp_path)), None)

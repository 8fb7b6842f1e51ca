import pytest

from lightning_polycom.errors import InputError
from lightning_polycom.training.run_folder import RunConfig, newest_version, resolve_run_folder


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
    assert newest_version(tmp_path / "name") == tmp_path / "name/version_10"


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


def test_processes_from_outside_need_a_version(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"run\.version"):
        resolve_run_folder(RunConfig("name", str(tmp_path)), None)

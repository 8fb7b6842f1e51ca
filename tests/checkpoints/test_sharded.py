"""The folder of a sharded checkpoint: whole or not there, read without executing anything, joined as it was."""

import os
import pickle
from pathlib import Path

import pytest
import torch
import torch.distributed

from lightning_polycom.checkpoints.complete import newest_complete, remove_leftovers
from lightning_polycom.checkpoints.joining import write_joined
from lightning_polycom.checkpoints.sharded import RECORD, VALUES, read_joined, read_values, write_sharded
from lightning_polycom.errors import InputError


@pytest.fixture
def group(tmp_path):
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def content() -> dict:
    """A checkpoint of two tied weights and another, as the strategy gives it."""
    matrix, vector = torch.nn.Parameter(torch.randn(6, 4)), torch.nn.Parameter(torch.randn(3))
    names = {"decoder.embedding.weight": matrix, "decoder.coefficients": vector}
    state = {n: {"step": torch.tensor(5.0), "exp_avg": torch.randn_like(p)} for n, p in names.items()}
    groups = [{"lr": 0.1, "params": ["decoder.coefficients"]}, {"lr": 0.2, "params": ["decoder.embedding.weight"]}]
    return {
        "state_dict": {**names, "decoder.head.weight": matrix},
        "optimizer_states": [{"state": state, "param_groups": groups}],
        "lr_schedulers": [{"last_epoch": 5}],
        "loops": {},
        "global_step": 5,
        "hyper_parameters": {"decoder": {}},
    }


@pytest.fixture
def saved(group, tmp_path) -> tuple[dict, Path]:
    torch.manual_seed(0)
    kept, path = content(), tmp_path / "run/checkpoints/step-00000005.ckpt"
    write_sharded(kept, path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    return kept, path


@pytest.mark.parametrize("streamed", [False, True])
def test_joined_it_is_what_one_device_saves(saved, tmp_path, streamed):
    kept, path = saved
    if streamed:
        write_joined(path, tmp_path / "one.ckpt", with_optimizer=True)
        joined = torch.load(tmp_path / "one.ckpt", weights_only=True)
    else:
        joined = read_joined(path, with_optimizer=True)
    assert joined.keys() == kept.keys() and list(joined["state_dict"]) == list(kept["state_dict"])
    assert all(torch.equal(value, kept["state_dict"][name]) for name, value in joined["state_dict"].items())
    tied = [joined["state_dict"][f"decoder.{name}.weight"].data_ptr() for name in ("embedding", "head")]
    assert tied[0] == tied[1]
    states, theirs = joined["optimizer_states"][0], kept["optimizer_states"][0]["state"]
    assert [group["params"] for group in states["param_groups"]] == [[0], [1]]
    for number, name in enumerate(("decoder.coefficients", "decoder.embedding.weight")):
        assert all(torch.equal(states["state"][number][key], theirs[name][key]) for key in ("step", "exp_avg"))
    weights_only = read_joined(path, with_optimizer=False)
    assert "optimizer_states" not in weights_only and "lr_schedulers" not in weights_only


class Malicious:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", [".metadata", VALUES])
def test_nothing_in_it_is_executed(saved, tmp_path, name):
    _, path = saved
    mark, size = tmp_path / "executed", (path / name).stat().st_size
    if name == VALUES:
        torch.save({"x": Malicious(mark)}, path / name)
    else:
        (path / name).write_bytes(pickle.dumps(Malicious(mark)))
    record = path / RECORD
    record.write_text(record.read_text().replace(str(size), str((path / name).stat().st_size)))
    with pytest.raises(InputError, match=f"{name} is refused, it holds more than tensors"):
        read_joined(path, with_optimizer=True)
    assert not mark.exists()
    if name == ".metadata":
        pickle.loads((path / name).read_bytes())
        assert mark.exists()  # as an unrestricted pickle would have


def test_an_object_in_a_tensors_place_is_refused(group, tmp_path):
    """torch.distributed.checkpoint would load it with an unrestricted pickle."""
    kept, path = content(), tmp_path / "run/checkpoints/step-00000005.ckpt"
    kept["optimizer_states"][0]["state"]["decoder.coefficients"]["note"] = Malicious(tmp_path / "executed")
    write_sharded(kept, path)
    with pytest.raises(InputError, match="holds more than tensors"):
        read_joined(path, with_optimizer=True)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", [".metadata", VALUES, RECORD, "__0_0.distcp"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_an_incomplete_one_is_named_and_passed_over(saved, name, damage):
    kept, path = saved
    older = path.with_name("step-00000004.ckpt")
    write_sharded(kept, older)
    assert newest_complete(path.parents[1]) == (path, [])
    if damage == "missing":
        (path / name).unlink()
    else:
        (path / name).write_bytes((path / name).read_bytes()[:40])
    with pytest.raises(InputError, match="is incomplete"):
        read_values(path)
    found = newest_complete(path.parents[1])
    assert found.checkpoint == older and [skipped for skipped, _ in found.skipped] == [path]


def test_a_new_one_replaces_a_damaged_one_and_leftovers_go(saved):
    kept, path = saved
    (path / RECORD).unlink()
    leftover = path.with_name(f".{path.name}.tmp")
    leftover.mkdir()
    write_sharded(kept, path)
    assert read_values(path)["global_step"] == 5 and not leftover.exists()
    leftover.mkdir()
    path.with_name(".step-00000007.ckpt.123.tmp").write_bytes(b"half")
    remove_leftovers(path.parent)
    assert [p.name for p in path.parent.iterdir()] == [path.name]

"""Run by test_background.py in each of two processes: `save_on_ranks.py <rank> <folder>`.

Writes one state of a sharded module twice, the second time in the background while training and its collectives go on.
"""

import json
import sys
import threading
from datetime import timedelta
from functools import partial
from pathlib import Path
from unittest import mock

import torch
import torch.distributed
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from lightning_polycom.checkpoints.background import Save
from lightning_polycom.checkpoints.sharded import write_sharded


def state(module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    """As FSDP2Strategy gives it: parameters where they lie, states by name."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    states = {names[parameter]: state for parameter, state in optimizer.state.items()}
    groups = [{"lr": 0.1, "params": list(names.values())}]
    return {
        "state_dict": module.state_dict(keep_vars=True), "global_step": 1,
        "optimizer_states": [{"state": states, "param_groups": groups}],
    }  # fmt: skip


def main() -> None:
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    store = f"file://{folder / 'store'}"
    torch.distributed.init_process_group("gloo", store, timedelta(seconds=60), rank=rank, world_size=2)
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 5))
    fully_shard(module, mesh=init_device_mesh("cpu", (2,)))
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    group = torch.distributed.new_group(backend="gloo")

    def step() -> None:
        module(torch.ones(2, 5)).square().sum().backward()
        optimizer.step()

    step()
    write_sharded(state(module, optimizer), folder / "synchronous.ckpt")
    gate, complete, dcp_save = threading.Event(), [], dcp.save

    def slow_save(*arguments, **options):
        assert gate.wait(30)
        return dcp_save(*arguments, **options)

    before = module[0].weight.to_local().clone()
    save = Save(True, partial(complete.append, rank) if rank == 0 else lambda: None, group)
    with mock.patch.object(dcp, "save", slow_save):
        save.run(partial(write_sharded, path=folder / "background.ckpt", group=group), state(module, optimizer))
        trained = 0
        while trained < 3 and not save.is_done:
            step()
            trained += 1
        gate.set()
        step()  # beside the collectives of the background
        save.wait()
    assert save.problem is None, save.problem
    changed = not torch.equal(before, module[0].weight.to_local())
    (folder / f"{rank}.json").write_text(
        json.dumps({"trained_meanwhile": trained, "changed": changed, "complete": complete})
    )
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()

"""Run by test_probe_on_ranks.py in each of several processes: `probe_on_ranks.py <rank> <world size> <folder>`.

Trains small decoders, copied or sharded, with and without an analysis after every step; writes losses and findings.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from small_decoders import Text, batch, config, decoder
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from lightning_polycom.analysis.probe import analyze_text, analyze_weights
from lightning_polycom.analysis.probe_windows import ProbeWindows
from lightning_polycom.model import Decoder
from lightning_polycom.model.initialization import initialize
from lightning_polycom.training.sharding import shard

STEPS = 3
CASES = {  # activation, whether there are experts, precision; None: a copy on every rank
    "copies": ("swiglu", False, None),
    "sharded": ("polynorm", False, "32-true"),
    "sharded bf16": ("polynorm", False, "bf16-mixed"),
    "sharded experts": ("polyrelu", True, "32-true"),
}


def windows() -> ProbeWindows:
    """An odd number of batches: one rank passes the last one again, without counting it."""
    found = ProbeWindows({"one": Text(1000), "two": Text(90, 1)}, 16, 600)
    found._batches = [(shards, [start], length) for shards, starts, length in found._batches for start in starts][:23]
    return found


def build(activation: str, sparse: bool, precision: str | None) -> torch.nn.Module:
    if precision is None:
        return decoder(activation, sparse)
    with torch.device("meta"):
        model = Decoder(config(activation, sparse))
    world_size = torch.distributed.get_world_size()
    shard(model, init_device_mesh("cpu", (world_size,), mesh_dim_names=("shard",)), precision)
    model.to_empty(device="cpu")
    initialize(model, 3)
    return model


def findings(model: Decoder, precision: str | None) -> dict[str, Any]:
    return analyze_weights(model) | analyze_text(model, windows(), "bf16" if precision == "bf16-mixed" else "fp32")


def train(case: tuple, rank: int, world_size: int, probed: bool) -> dict[str, Any]:
    model, precision = build(*case), case[2]
    first = findings(model, precision) if probed else None
    trained = model if precision else DistributedDataParallel(model, find_unused_parameters=case[1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for _ in range(STEPS):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = trained(batch().chunk(world_size)[rank]).float().logsumexp(-1).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if probed:
            findings(model, precision)
    kinds = sorted({type(parameter).__name__ for parameter in model.parameters()})
    whole = [p.full_tensor() if isinstance(p, DTensor) else p for p in model.parameters()]
    weights = [parameter.detach().double().sum().item() for parameter in whole]
    return {"losses": losses, "weights": weights, "kinds": kinds, "first": first}


def main() -> None:
    rank, world_size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    store = f"file://{folder / 'store'}"
    torch.distributed.init_process_group("gloo", store, timedelta(seconds=60), rank=rank, world_size=world_size)
    found = {
        name: {probed: train(case, rank, world_size, probed == "probed") for probed in ("probed", "alone")}
        for name, case in CASES.items()
    }
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()

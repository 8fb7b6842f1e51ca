"""Run by test_sharding.py in each of several processes: `shard_on_ranks.py <rank> <world size> <folder>`.

Trains small decoders sharded, and the same ones whole on the same global batch; writes how far they are apart.
"""

import json
import sys
from datetime import timedelta
from itertools import chain
from pathlib import Path

import torch
import torch.distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from lightning_polycom.activations import ACTIVATIONS, ActivationConfig
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.initialization import initialize
from lightning_polycom.model.loss import next_token_loss
from lightning_polycom.model.mixture_of_experts import MixtureOfExpertsConfig
from lightning_polycom.training.activation_checkpointing import checkpoint_activations
from lightning_polycom.training.balancing import BalancingConfig, StepRouting
from lightning_polycom.training.optimizers import OptimizerConfig, build_optimizer
from lightning_polycom.training.sharding import shard, whole

SEQUENCES, LENGTH, STEPS = 4, 12, 3
CASES = {
    **{name: ({"name": name}, {}) for name in ACTIVATIONS},
    "polynorm per channel": ({"name": "polynorm", "scope": "channel"}, {}),
    "polyrelu per channel, sigmoid, multiplier": (
        {"name": "polyrelu", "scope": "channel", "sigmoid": True, "learning_rate_multiplier": 4.0}, {},
    ),
    "polynorm frozen": ({"name": "polynorm", "frozen": True}, {}),
    "polynorm tied, full": ({"name": "polynorm"}, {"tie_embeddings": True, "checkpointing": "full"}),
    "polynorm, every 2nd": ({"name": "polynorm"}, {"checkpointing": 2}),
    "swiglu, selective": ({"name": "swiglu"}, {"checkpointing": "selective"}),
    "polyrelu, selective, recomputed": ({"name": "polyrelu"}, {"checkpointing": "selective", "recompute": True}),
    "polynorm accumulated": ({"name": "polynorm"}, {"accumulation": True}),
    "polynorm bf16": ({"name": "polynorm"}, {"precision": "bf16-mixed", "checkpointing": "full"}),
    "swiglu bf16": ({"name": "swiglu"}, {"precision": "bf16-mixed"}),
    # A rank's tokens leave at least 4 of 16 experts without any.
    "mixture with idle experts": ({"name": "swiglu"}, {"mixture": (16, 1), "checkpointing": "selective"}),
    "mixture per expert": (
        {"name": "polynorm", "scope": "expert"}, {"mixture": (6, 2, True, 16, True), "checkpointing": "full"},
    ),
    "mixture bf16": ({"name": "polynorm"}, {"mixture": (4, 2), "precision": "bf16-mixed"}),
}  # fmt: skip


def build(activation: dict, options: dict, mesh=None) -> Decoder:
    config = DecoderConfig(
        50, 16, 3, 2, 24, ActivationConfig(**activation), tie_embeddings=options.get("tie_embeddings", False),
        recompute_activation=options.get("recompute", False),
        mixture_of_experts=MixtureOfExpertsConfig(*options["mixture"]) if "mixture" in options else None,
    )  # fmt: skip
    with torch.device("meta"):
        decoder = Decoder(config)
    if mesh is not None:
        checkpoint_activations(decoder, options.get("checkpointing", "none"))
        shard(decoder, mesh, options.get("precision", "32-true"))
    decoder.to_empty(device="cpu")
    decoder.tie_embeddings()
    initialize(decoder, 3)
    return decoder


def full(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def train(decoder: Decoder, parts: list[torch.Tensor], factor: int, precision: str) -> dict:
    """STEPS steps, each over all `parts`; losses, norms, the first step's gradients and the final weights."""
    optimizer = build_optimizer(OptimizerConfig(learning_rate=0.01), decoder)
    losses, norms, gradients = [], [], {}
    for _ in range(STEPS):
        total = torch.zeros(())
        for part in parts:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
                logits, routings = decoder(part[:, :-1], with_routings=True)
            loss = next_token_loss(logits, part[:, 1:]).total / (SEQUENCES * LENGTH)
            if routings:
                step = StepRouting(BalancingConfig(0.1, 0.1))
                loss = loss + step.loss(routings, part[:, 1:].numel(), factor, sum_over if factor > 1 else torch.clone)
            (loss * factor).backward()
            if routings:
                step.move_biases(decoder, torch.zeros(()))
            total += loss.detach()
        gradients = gradients or {n: full(p.grad).clone() for n, p in decoder.named_parameters() if p.requires_grad}
        norms.append(full(torch.nn.utils.clip_grad_norm_(decoder.parameters(), 0.5)).item())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    weights = {name: full(value).detach().float() for name, value in decoder.state_dict().items()}
    return {"losses": torch.stack(losses), "norms": torch.tensor(norms), "gradients": gradients, "weights": weights}


def sum_over(tensor: torch.Tensor) -> torch.Tensor:
    torch.distributed.all_reduce(tensor)
    return tensor


def far(one: dict, other: dict) -> float:
    assert one.keys() == other.keys()
    return max(((one[k] - other[k]).abs().max() / (one[k].abs().max() + 1e-6)).item() for k in one)


def compare(activation: dict, options: dict, mesh, rank: int, world_size: int) -> dict:
    precision = options.get("precision", "32-true")
    ids = torch.randint(0, 50, (SEQUENCES, LENGTH + 1), generator=torch.Generator().manual_seed(1))
    alone = build(activation, options)
    start = {name: parameter.detach().clone() for name, parameter in alone.named_parameters()}
    cut = build(activation, options, mesh)
    same_start = all(torch.equal(full(p).detach(), start[name]) for name, p in cut.named_parameters())
    kinds = {type(tensor).__name__ for tensor in cut.parameters()}
    own = ids.chunk(world_size)[rank]
    parts = list(own.split(1)) if options.get("accumulation") else [own]
    dtypes = {}
    cut.blocks[0].feed_forward.activation.register_forward_pre_hook(
        lambda *_: dtypes.update({n: str(p.dtype) for n, p in cut.blocks[0].feed_forward.named_parameters()})
    )
    one, many = train(alone, [ids], 1, precision), train(cut, parts, world_size, precision)
    torch.distributed.all_reduce(many["losses"])
    coefficients = [whole(b.feed_forward.activation).learned_values() for b in cut.blocks]
    expected = [b.feed_forward.activation.learned_values() for b in alone.blocks]
    pairs = zip(
        chain.from_iterable(c.values() for c in coefficients),
        chain.from_iterable(e.values() for e in expected),
        strict=True,
    )
    return {
        "dtypes": dtypes, "same_start": same_start, "kinds": sorted(kinds),
        "names": list(one["weights"]) == list(many["weights"]),
        "losses": far({"": one["losses"]}, {"": many["losses"]}), "norms": far({"": one["norms"]}, {"": many["norms"]}),
        "gradients": far(one["gradients"], many["gradients"]), "weights": far(one["weights"], many["weights"]),
        "coefficients": max((abs(a - b) for a, b in pairs), default=0.0),
    }  # fmt: skip


def main() -> None:
    rank, world_size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    store = f"file://{folder / 'store'}"
    torch.distributed.init_process_group("gloo", store, timedelta(seconds=60), rank=rank, world_size=world_size)
    flat = init_device_mesh("cpu", (world_size,), mesh_dim_names=("shard",))
    values = {name: compare(*case, flat, rank, world_size) for name, case in CASES.items()}
    if world_size == 4:
        grid = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
        values["replicated"] = compare({"name": "polynorm"}, {}, grid, rank, world_size)
    (folder / f"{rank}.json").write_text(json.dumps(values))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()

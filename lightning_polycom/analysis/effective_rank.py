"""How many directions a weight matrix uses: the effective rank of the feed-forward's matrices."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_polycom.evaluation.ranks import gather, rank_and_world_size
from lightning_polycom.model import Decoder
from lightning_polycom.training.sharding import whole_parameter

MATRICES = ("up", "gate", "down")


class Matrix(NamedTuple):
    """One matrix of a feed-forward, or the same matrix of all experts, stacked."""

    layer: int
    name: str
    weight: nn.Parameter


def effective_rank(matrix: Tensor) -> float:
    """exp of the entropy of the singular values divided by their sum (Roy and Vetterli, 2007), in fp64.

    From 1 for a matrix of rank one to min(rows, columns) where all singular values are equal; 0 for a matrix of zeros,
    nan for one that is not finite.
    """
    if not matrix.isfinite().all():
        return math.nan
    values = torch.linalg.svdvals(matrix.detach().double())
    total = values.sum()
    if total == 0:
        return 0.0
    return torch.special.entr(values / total).sum().exp().item()


def feed_forward_ranks(decoder: Decoder, track: Callable[[list], Iterable] = iter) -> dict[str, list[list[float]]]:
    """Effective ranks of `up`, `gate` (where there is one) and `down`: by name, one list a layer, one value an expert.

    A dense layer counts as one expert. `shared_up` and the like are those of a shared expert. The matrices are taken
    one at a time, whole, and spread over the ranks; `track` wraps the list of them, for a progress bar. Collective.
    """
    rank, world_size = rank_and_world_size()
    mine: dict[tuple[str, int], dict[int, float]] = {}
    number = 0
    for layer, name, weight in track(feed_forward_matrices(decoder)):
        stacked = whole_parameter(weight)  # collective
        for expert, matrix in enumerate(stacked if stacked.ndim == 3 else stacked[None]):
            if number % world_size == rank:
                mine.setdefault((name, layer), {})[expert] = effective_rank(matrix)
            number += 1
    found: dict[tuple[str, int], dict[int, float]] = {}
    for part in gather(mine):
        for key, values in part.items():
            found.setdefault(key, {}).update(values)
    by_name: dict[str, list[list[float]]] = {}
    for (name, _), values in sorted(found.items(), key=lambda item: item[0][1]):
        by_name.setdefault(name, []).append([values[expert] for expert in sorted(values)])
    return {name: by_name[name] for name in dict.fromkeys(matrix.name for matrix in feed_forward_matrices(decoder))}


def feed_forward_matrices(decoder: Decoder) -> list[Matrix]:
    """Every layer's feed-forward matrices, (out, in), or (num_experts, out, in) where there are experts."""
    matrices = []
    for layer, block in enumerate(decoder.blocks):
        shared = getattr(block.feed_forward, "shared", None)
        for prefix, module in (("", block.feed_forward), ("shared_", shared)):
            for name in MATRICES:
                found = getattr(module, name, None)
                if found is not None:
                    weight = found.weight if isinstance(found, nn.Linear) else found
                    matrices.append(Matrix(layer, prefix + name, weight))
    return matrices

"""What evaluation needs of torch.distributed; with one process every function is trivial."""

import hashlib
from collections.abc import Iterable
from typing import Any

import torch.distributed


def rank_and_world_size() -> tuple[int, int]:
    """This process's rank and the number of processes; (0, 1) without a process group."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def gather(value: Any) -> list[Any]:
    """The picklable `value` of every rank, in rank order, on every rank. Collective."""
    world_size = rank_and_world_size()[1]
    if world_size == 1:
        return [value]
    values: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(values, value)
    return values


def broadcast(value: Any) -> Any:
    """Rank 0's picklable `value`, on every rank. Collective."""
    if rank_and_world_size()[1] == 1:
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


def require_equal(pieces: Iterable[bytes], what: str) -> None:
    """Stops all ranks if they do not hold the same `pieces`, where going on would deadlock. Collective.

    Raises:
        RuntimeError: the pieces, compared by their hash, differ.
    """
    if rank_and_world_size()[1] == 1:
        return
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "little") + piece)
    if len(set(gather(digest.hexdigest()))) > 1:
        raise RuntimeError(f"evaluation: {what} differ between ranks, so their forward passes would not line up")

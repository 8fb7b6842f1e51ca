"""A user's mistake that one rank has found, raised on every rank: else the others wait for it, and fail without it."""

import torch

from lightning_polycom.errors import InputError


def raise_on_all_ranks(message: str | None) -> None:
    """Raises the first rank's message that is not None; collective where there is a process group.

    Raises:
        InputError: a rank has a message.
    """
    messages = [message]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        messages = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(messages, message)
    for found in messages:
        if found is not None:
            raise InputError(found)

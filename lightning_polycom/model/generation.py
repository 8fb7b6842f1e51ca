"""Sampling from a decoder, one token after the other."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_polycom.model.decoder import Decoder


@torch.no_grad()
def generate(
    decoder: Decoder, input_ids: list[int], max_new_tokens: int, temperature: float, top_p: float, seed: int
) -> Iterator[int]:
    """Yields the ids that follow `input_ids`, at most `max_new_tokens` of them.

    temperature 0 takes the most likely token; otherwise tokens are drawn from the smallest set whose probability
    reaches `top_p`. The draw depends on `seed` only. The context is the last max_sequence_length ids.
    """
    device = decoder.embedding.weight.device
    generator = torch.Generator(device="cpu").manual_seed(seed)
    window = decoder.config.max_sequence_length
    ids = torch.tensor([input_ids], device=device)
    for _ in range(max_new_tokens):
        logits = decoder(ids[:, -window:])[0, -1].float().cpu()
        token = int(logits.argmax()) if temperature == 0 else _sample(logits / temperature, top_p, generator)
        yield token
        ids = torch.cat([ids, torch.tensor([[token]], device=device)], dim=1)


def _sample(logits: Tensor, top_p: float, generator: torch.Generator) -> int:
    """Draws one id from the nucleus of the distribution (Holtzman et al., 2020)."""
    probabilities, order = torch.softmax(logits, dim=-1).sort(descending=True)
    # A token belongs to the nucleus if the more likely ones before it have not reached top_p.
    outside = probabilities.cumsum(-1) - probabilities >= top_p
    choice = torch.multinomial(probabilities.masked_fill(outside, 0.0), 1, generator=generator)
    return int(order[choice])

"""Continuing rows of tokens with a decoder, one token after the other."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lightning_polycom.model.decoder import Decoder
from lightning_polycom.model.key_value_cache import KeyValueCache


def read_rows(forward: Callable[..., Tensor], cache: KeyValueCache, rows: list[list[int]]) -> Tensor:
    """The logits (rows, vocab_size) behind each row's last id, in fp32, after the cache's rows took in these ids.

    `forward` is the decoder's forward pass, or the decoder; rows may differ in length.
    """
    lengths = [before + len(row) for before, row in zip(cache.lengths, rows, strict=True)]
    width = max(len(row) for row in rows)
    input_ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=cache.device)
    last = torch.tensor([len(row) - 1 for row in rows], device=cache.device)
    numbers = torch.arange(len(rows), device=cache.device)
    logits = forward(input_ids, cache=cache, read=lambda hidden, head: head(hidden[numbers, last]))
    cache.truncate(lengths)
    return logits.float()


@torch.no_grad()
def generate(
    decoder: Decoder,
    prompts: list[list[int]],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    eos: int | None = None,
) -> Iterator[tuple[int, int]]:
    """Yields the ids that follow each prompt, each as (number of the prompt, id), step by step.

    A prompt gets at most `max_new_tokens` ids, and none behind `eos`. temperature 0 takes the most likely token;
    otherwise tokens are drawn from the smallest set whose probability reaches `top_p`. The draws for a prompt depend on
    `seed` and its number only. The context is the last max_sequence_length ids: as soon as one prompt exceeds them, all
    is read anew for each token, because every position has moved.
    """
    device, window = decoder.embedding.weight.device, decoder.config.max_sequence_length
    generators = [torch.Generator().manual_seed((seed + number) % 2**63) for number in range(len(prompts))]
    ids, active, cache = [list(prompt) for prompt in prompts], list(range(len(prompts))), None
    for step in range(max_new_tokens):
        if cache is None or cache.longest == window:
            capacity = min(window, max(len(ids[number]) for number in active) + max_new_tokens - step)
            cache = KeyValueCache(len(active), capacity, device)
            logits = read_rows(decoder, cache, [ids[number][-window:] for number in active])
        else:
            logits = read_rows(decoder, cache, [ids[number][-1:] for number in active])
        going_on = []
        for row, number in enumerate(active):
            token = _choose(logits[row].cpu(), temperature, top_p, generators[number])
            yield number, token
            if token != eos:
                ids[number].append(token)
                going_on.append(row)
        if len(going_on) < len(active):
            active = [active[row] for row in going_on]
            cache.keep(going_on)
        if not active:
            return


def _choose(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    return _sample(logits / temperature, top_p, generator)


def _sample(logits: Tensor, top_p: float, generator: torch.Generator) -> int:
    """Draws one id from the nucleus of the distribution (Holtzman et al., 2020)."""
    probabilities, order = torch.softmax(logits, dim=-1).sort(descending=True)
    # A token belongs to the nucleus if the more likely ones before it have not reached top_p.
    outside = probabilities.cumsum(-1) - probabilities >= top_p
    choice = torch.multinomial(probabilities.masked_fill(outside, 0.0), 1, generator=generator)
    return int(order[choice])

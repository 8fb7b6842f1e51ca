"""Greedy continuation of a batch of prompts."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lightning_polycom.evaluation.ranks import gather


@dataclass(frozen=True)
class Prompt:
    """Token ids to continue, the most tokens to add, and the strings that end the continuation."""

    token_ids: list[int]
    max_new_tokens: int
    until: list[str]


def generate_greedily(
    prompts: list[Prompt],
    next_logits: Callable[[list[list[int]]], Tensor],
    decode: Callable[[list[int]], str],
    eos: int,
) -> list[str]:
    """The continuations as text, cut before the first stop string or end-of-text token.

    `next_logits(rows)` maps token ids to the logits (rows, vocab_size) behind each row's last token. All ranks step
    together until the last of them is done, because under sharding each forward pass is a collective.
    """
    added: list[list[int]] = [[] for _ in prompts]
    texts = ["" for _ in prompts]
    active = [i for i, prompt in enumerate(prompts) if prompt.max_new_tokens > 0]
    while any(gather(bool(active))):
        rows = active or [0]
        tokens = next_logits([prompts[i].token_ids + added[i] for i in rows]).argmax(-1).tolist()
        going_on = []
        for i, token in zip(rows, tokens, strict=True):
            if i not in active or token == eos:
                continue
            added[i].append(token)
            texts[i] = decode(added[i])
            stopped = any(stop in texts[i] for stop in prompts[i].until)
            if not stopped and len(added[i]) < prompts[i].max_new_tokens:
                going_on.append(i)
        active = going_on
    return [_cut(text, prompt.until) for text, prompt in zip(texts, prompts, strict=True)]


def _cut(text: str, until: list[str]) -> str:
    for stop in until:
        text = text.split(stop)[0]
    return text

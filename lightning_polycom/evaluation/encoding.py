"""Requests as token ids, by the rules of lm-eval's own `hf` backend."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

CHUNK = 1024  # texts encoded at a time, so that only so many are held as Python numbers


class Pair(NamedTuple):
    """A context and what follows it, as int32 arrays."""

    context: np.ndarray
    continuation: np.ndarray


class Encoder:
    """Texts to token ids.

    With a `bos_token_id` every text begins with it, as `hf` has it for a tokenizer whose own post-processing adds it,
    and it stands for an empty context; else the end-of-text token does. `tokenizer` has `encode_batch`, `decode` and
    `eos_token_id`, and reads no special tokens out of texts.
    """

    def __init__(self, tokenizer: Any, bos_token_id: int | None = None):
        self._tokenizer, self._bos = tokenizer, bos_token_id
        self.prefix_token_id = tokenizer.eos_token_id if bos_token_id is None else bos_token_id
        self._bos_text = "" if bos_token_id is None else tokenizer.decode([bos_token_id])

    def encode(self, texts: list[str], with_bos: bool = True) -> list[np.ndarray]:
        """The ids of each text; one that spells the beginning-of-sequence token at its start has it once."""
        before = [self._bos] if with_bos and self._bos is not None else []
        stripped = [text.removeprefix(self._bos_text) for text in texts] if before else texts
        return [np.array([*before, *ids], dtype=np.int32) for ids in self._encoded(stripped)]

    def encode_pairs(self, pairs: list[tuple[str, str]]) -> list[Pair]:
        """Contexts and continuations.

        White space that ends a context belongs to the continuation. Both are encoded as one text, whose ids behind as
        many as the context alone has are the continuation.
        """
        behind = [_move_spaces(*pair) for pair in pairs if pair[0]]
        contexts = list(dict.fromkeys(context for context, _ in behind))
        context_ids = dict(zip(contexts, self.encode(contexts), strict=True))
        wholes = iter(self.encode([context + continuation for context, continuation in behind]))
        split = iter([Pair(ids, next(wholes)[len(ids) :]) for ids in (context_ids[context] for context, _ in behind)])
        alone = iter(self.encode([continuation for context, continuation in pairs if not context], with_bos=False))
        return [next(split) if context else self._behind_prefix(next(alone)) for context, _ in pairs]

    def _behind_prefix(self, ids: np.ndarray) -> Pair:
        if len(ids) and ids[0] == self.prefix_token_id:
            return Pair(ids[:1], ids[1:])
        return Pair(np.array([self.prefix_token_id], dtype=np.int32), ids)

    def _encoded(self, texts: list[str]) -> Iterator[list[int]]:
        for start in range(0, len(texts), CHUNK):
            yield from self._tokenizer.encode_batch(texts[start : start + CHUNK])


def _move_spaces(context: str, continuation: str) -> tuple[str, str]:
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation

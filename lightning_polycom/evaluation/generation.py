"""Greedy continuation of many prompts, side by side."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from lightning_polycom.evaluation.incremental_text import IncrementalText
from lightning_polycom.evaluation.passes import Track
from lightning_polycom.evaluation.ranks import gather
from lightning_polycom.model.generation import read_rows
from lightning_polycom.model.key_value_cache import KeyValueCache

REFILL = 4  # new prompts are read as soon as one in so many rows is free


@dataclass(frozen=True)
class Prompt:
    """Token ids to continue, the most tokens to add, and the strings that end the continuation."""

    token_ids: list[int]
    max_new_tokens: int
    until: list[str]

    @property
    def room(self) -> int:
        """The most tokens that it can come to."""
        return len(self.token_ids) + self.max_new_tokens


class Continuation:
    """A prompt and what was added to it so far."""

    def __init__(self, number: int, prompt: Prompt, decode: Callable[[list[int]], str], eos: int):
        self.number, self.prompt = number, prompt
        self._decode, self._eos = decode, eos
        self._added: list[int] = []
        self._stream, self._tail = IncrementalText(decode), ""
        self._reach = max((len(stop) for stop in prompt.until), default=0)
        self.done = prompt.max_new_tokens < 1

    def add(self, token: int) -> None:
        """Takes one more token; `done` says whether it was the last."""
        if token == self._eos:
            self.done = True
            return
        self._added.append(token)
        # A stop string that is new reaches into the new text.
        self._tail = self._tail[max(0, len(self._tail) - self._reach) :] + self._stream.add(token)
        stopped = any(stop in self._tail for stop in self.prompt.until)
        self.done = stopped or len(self._added) == self.prompt.max_new_tokens

    @property
    def last(self) -> int:
        """The token added last."""
        return self._added[-1]

    @property
    def text(self) -> str:
        """All that was added, cut before the first stop string."""
        text = self._decode(self._added)
        for stop in self.prompt.until:
            text = text.split(stop)[0]
        return text


def generate_greedily(
    continuations: list[Continuation],
    forward: Callable[..., Tensor],
    new_cache: Callable[[int, int], KeyValueCache],
    batch_tokens: int,
    track: Track,
) -> None:
    """Continues all prompts until they are done.

    `forward` is the decoder's; `new_cache(rows, capacity)` makes a cache beside it. So many go on side by side that
    the cache holds at most `batch_tokens` tokens, or one prompt; where some are done, others take their place. All
    ranks step together until the last of them is done, because under sharding each forward pass is a collective.
    `track` shows the progress over prompts.
    """
    progress = iter(track(range(len(continuations))))
    waiting = sorted((c for c in continuations if not c.done), key=lambda c: c.prompt.room)
    capacity = waiting[-1].prompt.room if waiting else 1
    limit = max(1, batch_tokens // capacity)
    active: list[Continuation] = []
    cache = new_cache(0, capacity)
    while any(gather(bool(waiting or active))):
        if not (waiting or active):
            read_rows(forward, new_cache(1, 1), [[0]])
            continue
        free = min(limit - len(active), len(waiting))
        if free and (not active or free * REFILL >= limit or free == len(waiting)):
            fresh = [waiting.pop() for _ in range(free)]
            beside = new_cache(free, capacity)
            _take(fresh, read_rows(forward, beside, [c.prompt.token_ids for c in fresh]))
            cache.join(beside)
            active += fresh
        else:
            _take(active, read_rows(forward, cache, [[c.last] for c in active]))
        going_on = [row for row, c in enumerate(active) if not c.done]
        if len(going_on) < len(active):
            deque(islice(progress, len(active) - len(going_on)), maxlen=0)
            active = [active[row] for row in going_on]
            cache.keep(going_on)
    deque(progress, maxlen=0)


def _take(continuations: list[Continuation], logits: Tensor) -> None:
    for continuation, token in zip(continuations, logits.argmax(-1).tolist(), strict=True):
        continuation.add(token)

"""How many bytes of text shards hold whose format does not record it: their documents are decoded and counted."""

from collections.abc import Iterator

import numpy as np

from lightning_polycom.data.formats import ForeignShards
from lightning_polycom.data.tokenizer import Tokenizer

_BLOCK = 1 << 20
_LONGEST = 1 << 16
# Ids whose text may depend on each other: those of one character's bytes, or a space that only a text's start drops.
_CONTEXT = 16


def count_text_bytes(shards: ForeignShards, tokenizer: Tokenizer) -> int:
    """UTF-8 bytes of the text of all documents, without their end-of-text tokens; exact, in constant memory.

    That is the text which the ids decode to. Where the tokenizer changed the text before encoding it (Unicode
    normalisation), or another tool stripped it, it is the changed text; special tokens other than the end of text count
    as they are spelt. Takes a second for some millions of tokens.
    """
    total = 0
    for context, ids in _pieces(shards, tokenizer.eos_token_id):
        # What a cut in the middle of a character adds to one piece it takes from the next, whose context ends in it.
        total += len(tokenizer.decode(context + ids).encode()) - (len(tokenizer.decode(context).encode()))
    return total


def _pieces(shards: ForeignShards, eos: int) -> Iterator[tuple[list[int], list[int]]]:
    """The documents, long ones in pieces: the last ids before the piece in its document, and those of the piece."""
    context: list[int] = []
    for start in range(0, shards.num_tokens, _BLOCK):
        block = shards.read(start, min(_BLOCK, shards.num_tokens - start))
        ends = np.flatnonzero(block == eos)
        for begin, end in zip([0, *(ends + 1)], [*ends, len(block)], strict=True):
            for cut in range(begin, end, _LONGEST):
                piece = block[cut : min(cut + _LONGEST, end)].tolist()
                yield context, piece
                context = (context + piece)[-_CONTEXT:]
            if end < len(block):
                context = []

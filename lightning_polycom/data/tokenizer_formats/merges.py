"""Merges of the tokenizers library from tokens that have a priority, as SentencePiece and tiktoken keep them.

Both libraries merge any two neighbours whose concatenation is a token, the token of highest priority first and the
leftmost first among equals. The tokenizers library merges pairs, each with a rank of its own.
"""

from collections.abc import Mapping


def merges_by_priority(priority: Mapping[str, float]) -> list[tuple[str, str]]:
    """All pairs of tokens that make up a token, in the order in which they are merged.

    Pairs of equal priority come with the longest token first, then the longest left part: a run of one character is
    then taken from the left as far as it goes, which is what leftmost first amounts to.

    Args:
        priority: Tokens that may be merged or result from a merge; the lowest value is merged first.
    """
    ranked = [
        (value, -len(token), -cut, token[:cut], token[cut:])
        for token, value in priority.items()
        for cut in range(1, len(token))
        if token[:cut] in priority and token[cut:] in priority
    ]
    return [(left, right) for *_, left, right in sorted(ranked)]

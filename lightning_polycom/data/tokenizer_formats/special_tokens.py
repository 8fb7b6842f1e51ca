"""The tokens of a tokenizer.json that stand outside the text, such as end of text."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tokenizers

EOS_TOKENS = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>", "<|im_end|>")
"""Usual names of the end-of-text token, in the order in which a tokenizer is searched for them."""


def added_token(id_: int, content: str, special: bool = True, normalized: bool = False, **options: bool) -> dict:
    """One entry of a tokenizer.json's `added_tokens`; `options` are `single_word`, `lstrip` and `rstrip`."""
    strips = {name: options.get(name, False) for name in ("single_word", "lstrip", "rstrip")}
    return {"id": id_, "content": content, **strips, "normalized": normalized, "special": special}


def mark_special(serialized: bytes, backend: "tokenizers.Tokenizer", tokens: Iterable[str | None]) -> bytes:
    """The tokenizer.json, loaded as `backend`, with those of its added tokens that are in `tokens` marked as special.

    The library looks for other added tokens in every text. A file in which nothing changes is returned as it is.
    """
    added = backend.get_added_tokens_decoder().values()
    wanted = {token.content for token in added if token.content in set(tokens) and not token.special}
    if not wanted:
        return serialized
    specification = json.loads(serialized)
    for token in specification["added_tokens"]:
        token["special"] |= token["content"] in wanted
    return dump_specification(specification)


def dump_specification(specification: dict[str, Any]) -> bytes:
    """The bytes of a tokenizer.json; the same contents always give the same bytes."""
    return (json.dumps(specification, ensure_ascii=False, indent=1) + "\n").encode()

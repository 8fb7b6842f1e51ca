"""A tiktoken encoding as a JSON file of the tokenizers library with the same ids."""

import re
from typing import Any

from lightning_polycom.data.tokenizer_formats.agreement import check_agreement
from lightning_polycom.data.tokenizer_formats.byte_level import byte_characters, byte_level_specification
from lightning_polycom.data.tokenizer_formats.merges import merges_by_priority
from lightning_polycom.data.tokenizer_formats.special_tokens import added_token, dump_specification
from lightning_polycom.errors import InputError

PREFIX = "tiktoken:"
_POSSESSIVE_INTERVAL = re.compile(r"(\[(?:\\.|[^\]\\])+\]|\\[pP]\{\w+\}|\\.|[^\\)\]}])(\{\d+(?:,\d*)?\})\+")
_END_OF_TEXT = re.compile(r"(\\.|\[(?:\\.|[^\]\\])+\])|\$")


def read_tiktoken(name: str) -> bytes:
    """The tokenizer.json of `tiktoken:<name>`, from tiktoken's cache or, where that lacks it, the network.

    Raises:
        InputError: tiktoken is not installed, has no such encoding, cannot get its file, or gives other ids.
    """
    encoding = _get_encoding(name.removeprefix(PREFIX))
    serialized = dump_specification(convert_tiktoken(encoding))
    check_agreement(serialized, encoding.encode_ordinary, name)
    return serialized


def _get_encoding(name: str) -> Any:
    try:
        import tiktoken
    except ImportError as error:
        raise InputError(
            f"tokenizer: {PREFIX}{name} needs tiktoken; install lightning-polycom[tokenizers] or leave the prefix out"
        ) from error
    known = tiktoken.list_encoding_names()
    if name not in known:
        raise InputError(f"tokenizer: tiktoken has no encoding {name!r}; it has {', '.join(known)}")
    try:
        return tiktoken.get_encoding(name)
    except (OSError, ValueError) as error:  # requests raises OSErrors; a file with another hash is a ValueError
        reason = " ".join(str(error).split())[:100]
        raise InputError(
            f"tokenizer: the file of {PREFIX}{name} is not in tiktoken's cache (TIKTOKEN_CACHE_DIR) and cannot be "
            f"fetched ({reason}); run `tiktoken.get_encoding({name!r})` where there is a network and copy the cache"
        ) from error


def convert_tiktoken(encoding: Any) -> dict[str, Any]:
    """The contents of a tokenizer.json with the ids of a `tiktoken.Encoding`."""
    characters = byte_characters()
    ranks = {"".join(characters[byte] for byte in token): rank for token, rank in encoding._mergeable_ranks.items()}
    specials = sorted(encoding._special_tokens.items(), key=lambda item: item[1])
    specification = byte_level_specification(
        {**ranks, **dict(specials)},
        [list(pair) for pair in merges_by_priority(ranks)],
        [added_token(id_, content) for content, id_ in specials],
        # tiktoken takes a word that is a token as it is, without merging.
        ignore_merges=True,
    )
    split = {
        "type": "Split",
        "pattern": {"Regex": oniguruma_pattern(encoding._pat_str)},
        "behavior": "Removed",
        "invert": True,
    }
    byte_level = {**specification["pre_tokenizer"], "use_regex": False}
    specification["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, byte_level]}
    return specification


def oniguruma_pattern(pattern: str) -> str:
    r"""The pattern in the dialect of the tokenizers library.

    There, `x{1,3}+` repeats `x{1,3}` where tiktoken's dialect takes it possessively, and `$` is also the end of a line.
    """
    pattern = _POSSESSIVE_INTERVAL.sub(r"(?>\1\2)", pattern)
    return _END_OF_TEXT.sub(lambda match: match[1] or r"\z", pattern)

"""Byte-level BPE as in GPT-2: a vocabulary and merges in two files, where every byte is written as a character."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from lightning_polycom.data.tokenizer_formats.special_tokens import EOS_TOKENS, added_token
from lightning_polycom.errors import InputError


@cache
def byte_characters() -> tuple[str, ...]:
    """The character that stands for each of the 256 bytes (`bytes_to_unicode` of github.com/openai/gpt-2)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return tuple(chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(256))


def byte_level_specification(
    vocab: dict[str, int], merges: list[list[str]], added_tokens: list[dict[str, Any]], **model: Any
) -> dict[str, Any]:
    """The contents of a tokenizer.json of byte-level BPE, cut into words as in GPT-2; `model` changes its settings."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens,
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            **model,
            "vocab": vocab,
            "merges": merges,
        },
    }


def read_vocab_and_merges(vocab_file: Path, merges_file: Path) -> dict[str, Any]:
    """The contents of a tokenizer.json from GPT-2's two files.

    Raises:
        InputError: a file that is malformed, or a vocabulary that is not byte-level; names the file.
    """
    try:
        vocab = json.loads(vocab_file.read_bytes())
        valid = isinstance(vocab, dict) and all(type(id_) is int and id_ >= 0 for id_ in vocab.values())
    except ValueError:
        valid = False
    if not valid or len(set(vocab.values())) < len(vocab):
        raise InputError(f"tokenizer: {vocab_file} is no JSON object of tokens and their ids; fetch it again")
    # Merges are for one pair each, so the ends of words that other kinds of BPE mark would be lost.
    if not vocab.keys() >= set(byte_characters()) or any(token.endswith("</w>") for token in vocab):
        raise InputError(f"tokenizer: {vocab_file} is not byte-level as GPT-2's is; give the folder's tokenizer.json")
    specials = [added_token(vocab[token], token) for token in EOS_TOKENS if token in vocab]
    return byte_level_specification(vocab, _read_merges(merges_file, vocab), specials)


def _read_merges(path: Path, vocab: dict[str, int]) -> list[list[str]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except ValueError as error:
        raise InputError(f"tokenizer: {path} is no UTF-8 text; fetch it again") from error
    merges = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        pair = line.split()
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocab.keys():
            raise InputError(f"tokenizer: {path} line {number} merges no two tokens: {line[:40]!r}; fetch it again")
        merges.append(pair)
    return merges

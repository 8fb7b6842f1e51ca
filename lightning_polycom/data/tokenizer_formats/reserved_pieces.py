"""Keeps a unigram model of the tokenizers library from reading control pieces, such as `</s>`, out of the text.

Such a model matches every piece of its vocabulary in the text, control, unknown and byte pieces too, and these have the
best score of all, 0. SentencePiece matches none of them. (Merges lead to no such piece, so BPE needs no care.)
"""

import json
import re
from typing import Any

from lightning_polycom.data.tokenizer_formats.special_tokens import dump_specification

NEVER = -1e6
"""A score with which a piece loses to every other way to write its text."""
_STRANGER = "\U0010fffd"
"""A character of the private use area: no vocabulary has it, so it is as unknown as the one that it stands for."""
_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")


def shield_reserved_pieces(serialized: bytes) -> bytes:
    """The tokenizer.json with special and byte pieces of a unigram model changed so that no text is read as one.

    Their scores become `NEVER`, which also makes an unknown character cost as much. That changes no other id if every
    character of a piece is a piece too, as then it is unknown in every way to write the text. Else, nothing is done. A
    piece with an unknown character in it would still win over unknown characters; there, that character is
    replaced by another unknown one. Models of other types, and files that are shielded, are returned as they are.
    """
    if b'"Unigram"' not in serialized:
        return serialized
    specification = json.loads(serialized)
    model = specification["model"]
    reserved = _reserved(specification)
    if model.get("type") != "Unigram" or all(score == NEVER for piece, score in model["vocab"] if piece in reserved):
        return serialized
    ordinary = {piece for piece, _ in model["vocab"]} - reserved
    if _STRANGER in ordinary or any(character not in ordinary for piece in ordinary for character in piece):
        return serialized
    model["vocab"] = [[piece, NEVER if piece in reserved else score] for piece, score in model["vocab"]]
    steps = []
    for piece in sorted(reserved):
        unknown = [character for character in piece if character not in ordinary]
        if unknown and not model.get("byte_fallback"):
            changed = piece.replace(unknown[0], _STRANGER)
            steps.append({"type": "Replace", "pattern": {"String": piece}, "content": changed})
    if steps:
        before = [specification["normalizer"]] if specification["normalizer"] else []
        specification["normalizer"] = {"type": "Sequence", "normalizers": [*before, *steps]}
    return dump_specification(specification)


def _reserved(specification: dict[str, Any]) -> set[str]:
    model = specification["model"]
    special = {token["content"] for token in specification.get("added_tokens", []) if token["special"]}
    return {
        piece
        for piece, _ in model.get("vocab", [])
        if piece in special or (model.get("byte_fallback") and _BYTE_PIECE.fullmatch(piece))
    }

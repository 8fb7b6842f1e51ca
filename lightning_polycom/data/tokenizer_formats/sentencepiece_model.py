"""A SentencePiece BPE model as a JSON file of the tokenizers library with the same ids.

Unigram models have no exact counterpart: SentencePiece adds up the scores of a whole text in float32, and the rounding
decides between pieces of nearly equal score, so that a word gets other ids in another place of the text. Neither have
models that normalise characters (nfkc, nmt_nfkc and rules of their own): the tokenizers library applies such rules to a
letter with its marks at once and may drop a mark, and Unicode's own NFKC is not the same.
"""

import math
from pathlib import Path
from typing import Any

from lightning_polycom.data.tokenizer_formats import sentencepiece_proto as proto
from lightning_polycom.data.tokenizer_formats.merges import merges_by_priority
from lightning_polycom.data.tokenizer_formats.special_tokens import added_token

SPACE = "\u2581"
"""What SentencePiece writes for a space."""


def convert_sentencepiece(content: bytes, path: Path) -> tuple[dict[str, Any] | None, str | None]:
    """The contents of a tokenizer.json with the ids of the model, and the model's end-of-text piece, if it has one.

    The first is None where the tokenizers library cannot give the model's ids.

    Raises:
        InputError: no SentencePiece model.
    """
    model = proto.parse_sentencepiece(content, path)
    control = [piece.piece for piece in model.pieces if piece.type in (proto.CONTROL, proto.UNKNOWN)]
    eos = model.trainer_spec.eos_piece if model.trainer_spec.eos_piece in control else None
    return None if _inconvertible(model) else _specification(model), eos


def _specification(model: Any) -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(model),
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(model.normalizer_spec)},
        # A text is merged whole, as in SentencePiece; cutting it into words first takes longer.
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": _decoder(model.normalizer_spec.add_dummy_prefix),
        "model": _bpe(model),
    }


def _inconvertible(model: Any) -> str | None:
    """Why the model has no counterpart in the tokenizers library, or None."""
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    types = {piece.type for piece in model.pieces}
    scores = _mergeable(model)
    if trainer.model_type != proto.BPE:
        return f"is a SentencePiece model of type {proto.MODEL_TYPES.get(trainer.model_type, trainer.model_type)!r}"
    if trainer.treat_whitespace_as_suffix or not normalizer.escape_whitespaces:
        return "is a SentencePiece model with white space at the end of pieces or not escaped"
    if model.denormalizer_spec.precompiled_charsmap:
        return "is a SentencePiece model that changes characters when it decodes"
    if normalizer.precompiled_charsmap:
        return f"is a SentencePiece model that normalises characters ({normalizer.name})"
    if proto.UNUSED in types:
        return "is a SentencePiece model with unused pieces"
    if proto.USER_DEFINED in types and (normalizer.add_dummy_prefix or normalizer.remove_extra_whitespaces):
        return "is a SentencePiece model with user-defined pieces that changes the text around them"
    unknown = [piece for piece in model.pieces if piece.type == proto.UNKNOWN]
    if len(unknown) != 1 or len({piece.piece for piece in model.pieces}) < len(model.pieces):
        return "is a SentencePiece model with a piece that stands twice, or without one unknown piece"
    bytes_ = [piece.piece for piece in model.pieces if piece.type == proto.BYTE]
    if sorted(bytes_) != ([f"<0x{byte:02X}>" for byte in range(256)] if trainer.byte_fallback else []):
        return "is a SentencePiece model without one piece for each byte"
    if not all(math.isfinite(score) for score in scores.values()):
        return "is a SentencePiece model with a score that is no number"
    if SPACE not in scores or any(character not in scores for piece in scores for character in piece):
        return "is a SentencePiece model in which a character of a piece is no piece itself"
    if _has_ties(scores):
        return "is a SentencePiece model with pieces of equal score"
    return None


def _has_ties(scores: dict[str, float]) -> bool:
    """Whether a piece of two characters or more has another's score; runs of one character may share one."""
    runs = {score for piece, score in scores.items() if len(piece) > 1 and len(set(piece)) == 1}
    others = [score for piece, score in scores.items() if len(set(piece)) > 1]
    return len(set(others)) < len(others) or not runs.isdisjoint(others)


def _mergeable(model: Any) -> dict[str, float]:
    return {piece.piece: piece.score for piece in model.pieces if piece.type == proto.NORMAL}


def _added_tokens(model: Any) -> list[dict[str, Any]]:
    """Control and unknown pieces, which are never read out of a text, and user-defined ones, which always are."""
    user_defined = proto.USER_DEFINED
    return [
        # SentencePiece looks for user-defined pieces in the text whose spaces are escaped.
        added_token(id_, piece.piece, special=piece.type != user_defined, normalized=piece.type == user_defined)
        for id_, piece in enumerate(model.pieces)
        if piece.type in (proto.CONTROL, proto.UNKNOWN, user_defined)
    ]


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _normalizers(normalizer: Any) -> list[dict[str, Any]]:
    """What SentencePiece's Normalizer does to a text, in its order (normalizer.cc)."""
    trims, steps = normalizer.remove_extra_whitespaces, []
    if trims:
        steps += [_replace({"Regex": " {2,}"}, " "), _replace({"Regex": r"\A "}, "")]
    steps.append(_replace({"String": " "}, SPACE))
    if trims:
        steps.append(_replace({"Regex": rf"{SPACE}+\z"}, ""))
    if normalizer.add_dummy_prefix:
        steps.append({"type": "Prepend", "prepend": SPACE})
    return steps


def _decoder(strips_prefix: bool) -> dict[str, Any]:
    steps = [_replace({"String": SPACE}, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    if strips_prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def _unknown_id(model: Any) -> int:
    return next(id_ for id_, piece in enumerate(model.pieces) if piece.type == proto.UNKNOWN)


def _bpe(model: Any) -> dict[str, Any]:
    priority = {piece: -score for piece, score in _mergeable(model).items()}
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": model.pieces[_unknown_id(model)].piece,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": model.trainer_spec.byte_fallback,
        "ignore_merges": False,
        "vocab": {piece.piece: id_ for id_, piece in enumerate(model.pieces)},
        "merges": [list(pair) for pair in merges_by_priority(priority)],
    }

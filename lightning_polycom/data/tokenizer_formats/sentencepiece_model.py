"""A SentencePiece model (BPE or unigram) as a JSON file of the tokenizers library with the same ids."""

import base64
from pathlib import Path
from typing import Any

from lightning_polycom.data.tokenizer_formats import sentencepiece_proto as proto
from lightning_polycom.data.tokenizer_formats.merges import merges_by_priority
from lightning_polycom.errors import InputError

SPACE = "\u2581"
"""What SentencePiece writes for a space."""
NORMALIZERS = ("nfkc", "nmt_nfkc")
"""Names of the rules by which SentencePiece changes characters that have a counterpart here."""


def convert_sentencepiece(content: bytes, path: Path) -> tuple[dict[str, Any], str | None]:
    """The contents of a tokenizer.json with the ids of the model, and the model's end-of-text piece, if it has one.

    Raises:
        InputError: no SentencePiece model, or one that cannot be converted exactly; names `path` and the reason.
    """
    model = proto.parse_sentencepiece(content, path)
    reason = _inconvertible(model)
    if reason is not None:
        raise InputError(f"tokenizer: {path} {reason}, which has no exact conversion; use another tokenizer")
    control = [piece.piece for piece in model.pieces if piece.type in (proto.CONTROL, proto.UNKNOWN)]
    eos = model.trainer_spec.eos_piece
    specification = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(model),
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(model.normalizer_spec)},
        "pre_tokenizer": _pre_tokenizer(model),
        "post_processor": None,
        "decoder": _decoder(model.normalizer_spec.add_dummy_prefix),
        "model": _bpe(model) if model.trainer_spec.model_type == proto.BPE else _unigram(model),
    }
    return specification, eos if eos in control else None


def _inconvertible(model: Any) -> str | None:
    """Why the model has no counterpart in the tokenizers library, or None."""
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    types = {piece.type for piece in model.pieces}
    scores = _mergeable(model)
    if trainer.model_type not in (proto.UNIGRAM, proto.BPE):
        return f"is a SentencePiece model of type {proto.MODEL_TYPES.get(trainer.model_type, trainer.model_type)!r}"
    if trainer.treat_whitespace_as_suffix or not normalizer.escape_whitespaces:
        return "is a SentencePiece model with white space at the end of pieces or not escaped"
    if model.denormalizer_spec.precompiled_charsmap:
        return "is a SentencePiece model that changes characters when it decodes"
    if normalizer.precompiled_charsmap and normalizer.name not in NORMALIZERS:
        return f"is a SentencePiece model with the normalisation {normalizer.name!r}"
    if proto.UNUSED in types:
        return "is a SentencePiece model with unused pieces"
    if proto.USER_DEFINED in types and (trainer.model_type == proto.UNIGRAM or _changes_text(normalizer)):
        return "is a SentencePiece model with user-defined pieces, and a unigram one or one that changes the text"
    if [piece.type for piece in model.pieces].count(proto.UNKNOWN) != 1 or len({p.piece for p in model.pieces}) < len(
        model.pieces
    ):
        return "is a SentencePiece model with a piece that stands twice, or without one unknown piece"
    if SPACE not in scores or any(character not in scores for piece in scores for character in piece):
        return "is a SentencePiece model in which a character of a piece is no piece itself"
    if trainer.model_type == proto.BPE and _has_ties(scores):
        return "is a SentencePiece BPE model with pieces of equal score"
    return None


def _changes_text(normalizer: Any) -> bool:
    return bool(normalizer.add_dummy_prefix or normalizer.remove_extra_whitespaces or normalizer.precompiled_charsmap)


def _has_ties(scores: dict[str, float]) -> bool:
    """Whether pieces of two characters or more, other than runs of one character, have the same score."""
    tied = [score for piece, score in scores.items() if len(piece) > 1 and len(set(piece)) > 1]
    return len(set(tied)) < len(tied)


def _mergeable(model: Any) -> dict[str, float]:
    return {piece.piece: piece.score for piece in model.pieces if piece.type == proto.NORMAL}


def _added_tokens(model: Any) -> list[dict[str, Any]]:
    """Control and unknown pieces, which are never read out of a text, and user-defined ones, which always are."""
    return [
        {
            "id": id_,
            "content": piece.piece,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            # SentencePiece looks for user-defined pieces in the text whose spaces are escaped.
            "normalized": piece.type == proto.USER_DEFINED,
            "special": piece.type != proto.USER_DEFINED,
        }
        for id_, piece in enumerate(model.pieces)
        if piece.type in (proto.CONTROL, proto.UNKNOWN, proto.USER_DEFINED)
    ]


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _normalizers(normalizer: Any) -> list[dict[str, Any]]:
    """What SentencePiece's Normalizer does to a text, in its order (normalizer.cc)."""
    charsmap, trims = normalizer.precompiled_charsmap, normalizer.remove_extra_whitespaces
    steps = []
    if charsmap:
        # The step after it takes a letter and its marks as one and may drop a mark; composed letters it takes well.
        steps.append({"type": "NFKC"})
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()})
    if trims:
        steps += [_replace({"Regex": " {2,}"}, " "), _replace({"Regex": r"\A "}, "")]
    steps.append(_replace({"String": " "}, SPACE))
    if trims:
        steps.append(_replace({"Regex": rf"{SPACE}+\z"}, ""))
    if normalizer.add_dummy_prefix:
        steps.append({"type": "Prepend", "prepend": SPACE})
    return steps


def _pre_tokenizer(model: Any) -> dict[str, Any] | None:
    """Cuts before white space, which changes no id where no piece goes across, and is faster than whole texts."""
    crosses = any(
        right == SPACE != left
        for piece in model.pieces
        if piece.type in (proto.NORMAL, proto.USER_DEFINED)
        for left, right in zip(piece.piece, piece.piece[1:], strict=False)
    )
    if crosses:
        return None
    return {
        "type": "Split",
        "pattern": {"Regex": f"{SPACE}+[^{SPACE}]*"},
        "behavior": "Isolated",
        "invert": False,
    }


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


def _unigram(model: Any) -> dict[str, Any]:
    return {
        "type": "Unigram",
        "unk_id": _unknown_id(model),
        "byte_fallback": model.trainer_spec.byte_fallback,
        "vocab": [[piece.piece, piece.score] for piece in model.pieces],
    }

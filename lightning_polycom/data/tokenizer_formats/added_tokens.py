"""Adds the tokens of a folder's settings to its tokenizer.json."""

import json
from pathlib import Path
from typing import Any

from lightning_polycom.data.tokenizer_formats.sentencepiece_library import SentencePieceBackend, is_wrapped
from lightning_polycom.data.tokenizer_formats.special_tokens import added_token, dump_specification
from lightning_polycom.errors import InputError


def add_tokens(serialized: bytes, tokens: list[dict[str, Any]], folder: Path) -> bytes:
    """The tokenizer.json with those of `tokens` that it lacks, each with its own id.

    Args:
        serialized: A tokenizer.json; if it lacks none, it is returned as it is.
        tokens: Entries like those of `added_tokens` there, of which `id` and `content` must be given.
        folder: Named in errors.

    Raises:
        InputError: a token that has another id in the file, or one that cannot have its id or its meaning.
    """
    if not tokens:
        return serialized
    if is_wrapped(serialized):
        return _require_pieces(serialized, tokens, folder)
    try:
        specification = json.loads(serialized)
        known = {token["content"]: token["id"] for token in specification["added_tokens"]}
        vocab = specification["model"]["vocab"]
        ids = dict(vocab) if isinstance(vocab, dict) else {piece: id_ for id_, (piece, _) in enumerate(vocab)}
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"tokenizer: {folder}/tokenizer.json is no JSON file of the tokenizers library") from error
    missing = [token for token in tokens if token["content"] not in known]
    if not missing:
        return serialized
    ids |= known
    for token in missing:
        _check(token, ids, specification["normalizer"] is not None, folder)
        options = {key: value for key, value in token.items() if key not in ("id", "content")}
        entry = added_token(token["id"], token["content"], **{"special": False, **options})
        specification["added_tokens"].append(entry)
    _give_ids(specification, folder)
    return dump_specification(specification)


def _require_pieces(serialized: bytes, tokens: list[dict[str, Any]], folder: Path) -> bytes:
    """A SentencePiece model as it is, if the tokens are pieces of it already."""
    backend = SentencePieceBackend(serialized)
    for token in tokens:
        if backend.token_to_id(token["content"]) != token["id"]:
            raise InputError(
                f"tokenizer: {folder} adds {token['content']!r} to a SentencePiece model that only its own library can "
                "use, which takes no more tokens; give the folder a tokenizer.json"
            )
    return serialized


def _check(token: dict[str, Any], ids: dict[str, int], normalizes: bool, folder: Path) -> None:
    content, id_ = token["content"], token["id"]
    if ids.get(content, id_) != id_ or (content not in ids and id_ in ids.values()):
        raise InputError(
            f"tokenizer: {folder} gives the added token {content!r} the id {id_}, its vocabulary says otherwise; "
            "fetch the folder again"
        )
    if normalizes and not token.get("special", False):
        raise InputError(
            f"tokenizer: {folder} adds {content!r}, which is looked for in every text, to a vocabulary with a "
            "normalizer of its own; that has no exact conversion, give the folder a tokenizer.json"
        )


def _give_ids(specification: dict[str, Any], folder: Path) -> None:
    """Enters the added tokens in the model's vocabulary; the library gives those outside it the next free ids."""
    vocab = specification["model"]["vocab"]
    specification["added_tokens"].sort(key=lambda token: token["id"])
    for token in specification["added_tokens"]:
        if isinstance(vocab, dict):
            vocab[token["content"]] = token["id"]
        elif token["id"] == len(vocab):
            vocab.append([token["content"], 0.0])
        elif token["id"] > len(vocab):
            raise InputError(
                f"tokenizer: {folder} leaves out the ids from {len(vocab)} to {token['id']}, which a unigram "
                "vocabulary cannot; give the folder a tokenizer.json"
            )

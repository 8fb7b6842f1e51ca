"""A SentencePiece model that the tokenizers library cannot express, used through its own library.

It is kept in one JSON file like every other tokenizer, so that folders, runs and fingerprints know one form.
"""

import base64
import json
import os
from typing import Any, NamedTuple

from lightning_polycom.data.tokenizer_formats.special_tokens import dump_specification
from lightning_polycom.errors import InputError

FORMAT = "lightning_polycom.sentencepiece/1"


def wrap_model(content: bytes) -> bytes:
    """The bytes of a tokenizer.json that holds a SentencePiece model as it is."""
    return dump_specification({"format": FORMAT, "model": base64.b64encode(content).decode()})


def is_wrapped(serialized: bytes) -> bool:
    """Whether a tokenizer.json holds a SentencePiece model."""
    return FORMAT.encode() in serialized[:200]


class Encoding(NamedTuple):
    """The ids of one text."""

    ids: list[int]


class SentencePieceBackend:
    """A SentencePiece model with those methods of a tokenizer of the tokenizers library that `Tokenizer` needs.

    Control pieces, such as `</s>`, are never read out of a text: only ordinary and user-defined ones are.

    Raises:
        InputError: the library is not installed.
        ValueError: a damaged model.
    """

    def __init__(self, serialized: bytes):
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            raise InputError(
                "tokenizer: this SentencePiece model needs its own library; pip install lightning-polycom[tokenizers]"
            ) from error
        try:
            model = base64.b64decode(json.loads(serialized)["model"], validate=True)
            self._model = SentencePieceProcessor(model_proto=model)
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"the library refuses it: {reason}") from error
        self._control = {n for n in range(self._model.get_piece_size()) if self._model.is_control(n)}

    def encode(self, text: str, add_special_tokens: bool = False) -> Encoding:
        """The ids of one text, without special tokens."""
        return Encoding(self._model.encode(text))

    def encode_batch_fast(self, texts: list[str], add_special_tokens: bool = False) -> list[Encoding]:
        """The ids of each text, by all cores unless TOKENIZERS_PARALLELISM says no."""
        alone = os.environ.get("TOKENIZERS_PARALLELISM", "true").lower() in ("false", "0", "off", "no")
        threads = 1 if alone else os.cpu_count() or 1
        return [Encoding(ids) for ids in self._model.encode(texts, num_threads=threads)]

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        """The text of the ids, with control pieces spelt out, which the library would leave out."""
        parts, run = [], []
        for id_ in ids:
            if id_ in self._control:
                parts += [self._model.decode(run), self._model.id_to_piece(id_)]
                run = []
            else:
                run.append(id_)
        return "".join([*parts, self._model.decode(run)])

    def token_to_id(self, token: str) -> int | None:
        """The id of a piece, or None."""
        id_ = self._model.piece_to_id(token)
        return id_ if self._model.id_to_piece(id_) == token else None

    def get_vocab(self, with_added_tokens: bool = True) -> dict[str, int]:
        """Every piece and its id."""
        return {self._model.id_to_piece(n): n for n in range(self._model.get_piece_size())}

    def get_added_tokens_decoder(self) -> dict[int, Any]:
        """Ids of the pieces that stand for themselves and for no text: none that a setting could change."""
        return {}

"""A tokenizer in one file, whose kind is found by its contents."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning_polycom.data.tokenizer_formats.agreement import check_agreement
from lightning_polycom.data.tokenizer_formats.sentencepiece_library import wrap_model
from lightning_polycom.data.tokenizer_formats.sentencepiece_model import convert_sentencepiece
from lightning_polycom.data.tokenizer_formats.special_tokens import dump_specification
from lightning_polycom.errors import InputError

_TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n")


@dataclass(frozen=True)
class FoundTokenizer:
    """A tokenizer.json, and the end-of-text token that the tokenizer's own files name, if any does."""

    serialized: bytes
    eos_token: str | None = None

    @classmethod
    def of(cls, specification: dict[str, Any], eos_token: str | None = None) -> "FoundTokenizer":
        """The same from the contents of a tokenizer.json."""
        return cls(dump_specification(specification), eos_token)


def read_file(path: Path) -> FoundTokenizer:
    """A JSON file of the tokenizers library as it is, or a SentencePiece model converted to one, or put into one.

    Where the sentencepiece library is installed, it encodes a few texts to check the conversion.

    Raises:
        InputError: a file that is neither, or a model whose conversion differs.
    """
    content = path.read_bytes()
    if path.suffix == ".json" or content.lstrip()[:1] == b"{":
        return FoundTokenizer(content)
    if _TIKTOKEN_LINE.match(content):
        raise InputError(
            f"tokenizer: {path} has tiktoken's tokens but not the pattern that cuts text into words; give "
            "tiktoken:NAME for an encoding of tiktoken, or a tokenizer.json"
        )
    specification, eos_token = convert_sentencepiece(content, path)
    if specification is None:
        return FoundTokenizer(wrap_model(content), eos_token)
    found = FoundTokenizer.of(specification, eos_token)
    if find_spec("sentencepiece") is not None:
        check_agreement(found.serialized, _original_encode(content, path), str(path))
    return found


def _original_encode(content: bytes, path: Path) -> Callable[[str], list[int]]:
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_proto=content).encode
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"tokenizer: {path} is damaged, sentencepiece refuses it ({reason}); fetch it again"
        ) from error

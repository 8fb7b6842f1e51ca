"""A byte-level tokenizer with an end-of-text token, loaded from a file or trained on the text at hand."""

import hashlib
import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_polycom.atomic import atomic_path
from lightning_polycom.errors import InputError

if TYPE_CHECKING:
    import tokenizers

EOS_TOKENS = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>", "<|im_end|>")
"""Usual names of the end-of-text token, in the order in which a tokenizer file is searched for them."""

MIN_VOCAB_SIZE = 257  # one id for each byte, and end of text


class Tokenizer:
    """Text to token ids and back, never adding special tokens and never reading them out of the text.

    A document that spells the end-of-text token in its text is encoded as ordinary characters, so that end-of-text
    ids occur only where documents end.
    """

    def __init__(self, serialized: bytes, backend: "tokenizers.Tokenizer", eos_token: str):
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self._serialized, self._backend, self._eos_token = serialized, backend, eos_token

    @classmethod
    def load(cls, path: str | os.PathLike, eos_token: str | None = None, bos_token: str | None = None) -> "Tokenizer":
        """Loads a JSON file of the tokenizers library; the end-of-text token is `eos_token` or the first usual one.

        Raises:
            InputError: no such file, not a tokenizer, or no end-of-text token in its vocabulary.
        """
        from tokenizers import Tokenizer as Backend

        path = Path(path)
        if not path.is_file():
            raise InputError(f"tokenizer: {path} is no file; give a tokenizer.json, or leave it out to train one")
        serialized = path.read_bytes()
        try:
            backend = Backend.from_buffer(serialized)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise InputError(f"tokenizer: {path} is no JSON file of the tokenizers library ({reason})") from error
        return cls(serialized, backend, _find_eos_token(path, backend, eos_token))

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Trains byte-level BPE with `vocab_size` ids on `texts`; `<|endoftext|>` is id 0, every text has an encoding.

        Raises:
            InputError: a vocabulary smaller than the bytes, or more ids than the text has pairs seen twice.
        """
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, pre_tokenizers, trainers

        if vocab_size < MIN_VOCAB_SIZE:
            raise InputError(
                f"vocab_size: found {vocab_size}; it must be at least {MIN_VOCAB_SIZE} (256 bytes and end of text)"
            )
        backend = Backend(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=[EOS_TOKENS[0]],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        if backend.get_vocab_size() < vocab_size:
            raise InputError(
                f"vocab_size: the text gives only {backend.get_vocab_size()} tokens of the {vocab_size} asked for; "
                f"set it to {backend.get_vocab_size()} or less, or add text"
            )
        return cls((backend.to_str(pretty=True) + "\n").encode(), backend, EOS_TOKENS[0])

    def save(self, path: str | os.PathLike) -> None:
        """Writes the JSON file, atomically; a loaded tokenizer is written byte for byte as it was read."""
        with atomic_path(path) as temporary:
            temporary.write_bytes(self._serialized)

    def encode(self, text: str) -> list[int]:
        """Token ids of one text."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, encoded in parallel."""
        return [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: list[int]) -> str:
        """The text of the ids, special tokens included."""
        return self._backend.decode(ids, skip_special_tokens=False)

    @cached_property
    def vocab_size(self) -> int:
        """The largest id plus one: the rows that an embedding needs."""
        return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    bos_token = bos_token_id = None

    @property
    def eos_token(self) -> str:
        """The end-of-text token."""
        return self._eos_token

    @property
    def eos_token_id(self) -> int:
        """The id of the end-of-text token."""
        return self._backend.token_to_id(self._eos_token)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the JSON file that `save` writes, in hex."""
        return hashlib.sha256(self._serialized).hexdigest()


def _find_eos_token(path: Path, backend: "tokenizers.Tokenizer", eos_token: str | None) -> str:
    for token in EOS_TOKENS if eos_token is None else (eos_token,):
        if backend.token_to_id(token) is not None:
            return token
    if eos_token is not None:
        raise InputError(f"eos_token: {path} has no token {eos_token!r}; name one of its tokens")
    raise InputError(f"eos_token: {path} has none of {', '.join(EOS_TOKENS)}; name its end-of-text token")

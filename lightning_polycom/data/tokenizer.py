"""Text to token ids and back, by a tokenizer of one of several kinds or one trained on the text at hand."""

import hashlib
import os
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from lightning_polycom.atomic import atomic_path
from lightning_polycom.data.manifest import TokenizerRecord
from lightning_polycom.data.tokenizer_formats import find_tokenizer
from lightning_polycom.data.tokenizer_formats.reserved_pieces import shield_reserved_pieces
from lightning_polycom.data.tokenizer_formats.sentencepiece_library import SentencePieceBackend, is_wrapped
from lightning_polycom.data.tokenizer_formats.special_tokens import EOS_TOKENS, mark_special
from lightning_polycom.errors import InputError

if TYPE_CHECKING:
    import tokenizers

    Backend = tokenizers.Tokenizer | SentencePieceBackend

MIN_VOCAB_SIZE = 257  # one id for each byte, and end of text


class Tokenizer:
    """Text to token ids and back, never adding special tokens and never reading them out of the text.

    A document that spells the end-of-text token in its text is encoded as ordinary characters, so that end-of-text
    ids occur only where documents end. Whatever kind it was loaded from, it is one JSON file from then on: of the
    tokenizers library, or, where that cannot express it, with a SentencePiece model inside. It can be pickled.
    """

    def __init__(self, serialized: bytes, eos_token: str, bos_token: str | None = None):
        self._backend = _backend(serialized)
        self._serialized, self._eos_token, self._bos_token = serialized, eos_token, bos_token

    def __reduce__(self) -> tuple:
        return Tokenizer, (self._serialized, self._eos_token, self._bos_token)

    @classmethod
    def load(cls, path: str | os.PathLike, eos_token: str | None = None, bos_token: str | None = None) -> "Tokenizer":
        """Loads a tokenizer of any kind that `find_tokenizer` reads.

        The end-of-text token is `eos_token`, else the one that the tokenizer's own files name, else the first of
        `EOS_TOKENS` that it has. There is a beginning-of-text token only if `bos_token` names one.

        Args:
            path: A tokenizer.json, a folder with a tokenizer, a SentencePiece model, a name on the Hugging Face hub,
                or `tiktoken:<encoding>`.

        Raises:
            InputError: no such tokenizer, one that cannot be used, or a token that is not in its vocabulary or
                that would be read out of a text.
        """
        found = find_tokenizer(path)
        backend = _load_backend(found.serialized, path)
        eos_token = _find_eos_token(path, backend, eos_token, found.eos_token)
        if bos_token is not None and backend.token_to_id(bos_token) is None:
            raise InputError(f"bos_token: {path} has no token {bos_token!r}; name one of its tokens, or leave it out")
        serialized = mark_special(found.serialized, backend, (eos_token, bos_token))
        serialized = shield_reserved_pieces(serialized)
        tokenizer = cls(serialized, eos_token, bos_token)
        for token in (eos_token, bos_token):
            if tokenizer._reads_special(token):
                raise InputError(
                    f"tokenizer: {path} reads its special token {token!r} out of a text that spells it, and so would "
                    "see documents end where they do not; use another tokenizer"
                )
        return tokenizer

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
        return cls((backend.to_str(pretty=True) + "\n").encode(), EOS_TOKENS[0])

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

    @property
    def eos_token(self) -> str:
        """The end-of-text token."""
        return self._eos_token

    @property
    def eos_token_id(self) -> int:
        """The id of the end-of-text token."""
        return self._backend.token_to_id(self._eos_token)

    @property
    def bos_token(self) -> str | None:
        """The beginning-of-text token, or None if none was asked for."""
        return self._bos_token

    @property
    def bos_token_id(self) -> int | None:
        """The id of the beginning-of-text token, or None if none was asked for."""
        return None if self._bos_token is None else self._backend.token_to_id(self._bos_token)

    @property
    def uses_sentencepiece(self) -> bool:
        """Whether it is a SentencePiece model that only its own library can use."""
        return is_wrapped(self._serialized)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the JSON file that `save` writes, in hex."""
        return hashlib.sha256(self._serialized).hexdigest()

    def record(self, file: str) -> TokenizerRecord:
        """What a manifest says of it, lying in `file`."""
        return TokenizerRecord(
            file=file,
            sha256=self.fingerprint,
            vocab_size=self.vocab_size,
            eos_token=self.eos_token,
            eos_token_id=self.eos_token_id,
            bos_token=self.bos_token,
            bos_token_id=self.bos_token_id,
        )

    def _reads_special(self, token: str | None) -> bool:
        """Whether `token` is a special token that comes out of a text that spells it."""
        if token is None:
            return False
        id_ = self._backend.token_to_id(token)
        special = self.uses_sentencepiece or id_ in self._backend.get_added_tokens_decoder()
        return special and id_ in self.encode(token)


def _backend(serialized: bytes) -> "Backend":
    if is_wrapped(serialized):
        return SentencePieceBackend(serialized)
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_buffer(serialized)
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend


def _load_backend(serialized: bytes, path: str | os.PathLike) -> "Backend":
    try:
        return _backend(serialized)
    except InputError:  # a library is missing
        raise
    except ValueError as error:
        reason = " ".join(str(error).split())
        what = "a damaged SentencePiece model" if is_wrapped(serialized) else "no JSON file of the tokenizers library"
        raise InputError(f"tokenizer: {path} is {what} ({reason}); fetch it again") from error


def _find_eos_token(path: str | os.PathLike, backend: "Backend", asked: str | None, named: str | None) -> str:
    if asked is not None:
        if backend.token_to_id(asked) is None:
            raise InputError(f"eos_token: {path} has no token {asked!r}; name one of its tokens")
        return asked
    if named is not None:
        if backend.token_to_id(named) is None:
            raise InputError(f"eos_token: {path} names {named!r}, which it does not have; name one of its tokens")
        return named
    for token in EOS_TOKENS:
        if backend.token_to_id(token) is not None:
            return token
    raise InputError(f"eos_token: {path} has none of {', '.join(EOS_TOKENS)}; name its end-of-text token")

"""What every reader of another tool's format gives, and the sequence made of it."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from lightning_polycom.data.token_sequence import Segment, TokenSequence
from lightning_polycom.errors import InputError

# 64 places of 1,024 ids: the same few page reads for a kilobyte and for a terabyte.
_SAMPLE_PLACES, _SAMPLE_LENGTH = 64, 1024


class DocumentIndex(Protocol):
    """Where the documents of one file lie, read only when asked for."""

    def count(self) -> int:
        """Documents in the file."""

    def bounds(self) -> np.ndarray:
        """Where each document begins in the file, and the end of the last one: int64 (documents + 1,), in tokens."""


@dataclass(frozen=True)
class TokenFile:
    """One file of another tool: its format's name, dtype of the ids, where they lie in it, documents if recorded."""

    path: Path
    format: str
    dtype: np.dtype
    segments: list[Segment]
    documents: DocumentIndex | None = None

    @classmethod
    def whole(
        cls, path: Path, format: str, dtype: np.dtype, header_bytes: int = 0, documents: DocumentIndex | None = None
    ) -> "TokenFile":
        """A file that has nothing but ids behind a header of `header_bytes`.

        Raises:
            InputError: no ids, or bytes left over.
        """
        num_bytes = path.stat().st_size - header_bytes
        num_tokens, left_over = divmod(num_bytes, dtype.itemsize)
        if left_over or not num_tokens:
            raise InputError(
                f"{path}: {num_bytes} bytes of ids found, expected a multiple of {dtype.itemsize} for {dtype.name} and "
                "at least one id; copy the file again, or give its dtype"
            )
        return cls(path, format, dtype, [Segment(path, header_bytes, num_tokens)], documents)


class ForeignShards(TokenSequence):
    """The tokens of other tools' files, joined in the order given, read in place.

    Attributes:
        formats: Each format's name, once.
        num_bytes: None, as no such format records it.
        eos_token_id: None, as no such format records it either; whoever knows the tokenizer sets it.
    """

    num_bytes = None
    eos_token_id: int | None = None

    def __init__(self, files: list[TokenFile]):
        for file in files:
            if file.dtype != files[0].dtype:
                raise InputError(
                    f"{file.path}: its ids are {file.dtype.name}, those of {files[0].path} are {files[0].dtype.name}; "
                    "open them apart"
                )
        super().__init__(files[0].dtype, [segment for file in files for segment in file.segments])
        self.formats = list(dict.fromkeys(file.format for file in files))
        self._names_and_sizes = [(file.path.name, file.path.stat().st_size) for file in files]
        self._documents = [file.documents for file in files]
        self._documents_of = {file.path: file.documents for file in files}

    @cached_property
    def num_documents(self) -> int | None:
        """Documents in all files, or None where a format does not record them. May read sidecars, once.

        Raises:
            InputError: a damaged sidecar.
        """
        if any(documents is None for documents in self._documents):
            return None
        return sum(documents.count() for documents in self._documents)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over the dtype, the files' names and sizes, and 64 samples of 1,024 ids, evenly spread.

        So it costs the same for any size, does not change if the folder is moved, and overlooks a change of single ids
        between the samples.
        """
        digest = hashlib.sha256(json.dumps([self.dtype.str, self._names_and_sizes]).encode())
        for ids in self.samples():
            digest.update(ids.tobytes())
        return digest.hexdigest()

    def document_bounds(self, file: int) -> np.ndarray | None:
        """As `DocumentIndex.bounds`, of `files[file]`; None where its format does not record documents.

        Raises:
            InputError: a damaged index: bounds that fall, or lie outside the file.
        """
        path = self.files[file]
        documents = self._documents_of[path]
        if documents is None:
            return None
        bounds = documents.bounds()
        most = path.stat().st_size // self.dtype.itemsize
        if bounds[0] < 0 or bounds[-1] > most or np.any(np.diff(bounds) < 0):
            raise InputError(
                f"{path}: its documents' bounds, tokens {bounds.min()} to {bounds.max()}, do not rise from 0 to at "
                f"most {most}; copy its index again"
            )
        return bounds

    def check_vocabulary(self, vocab_size: int) -> None:
        """Refuses shards whose samples (see `fingerprint`) have an id outside a vocabulary.

        Raises:
            InputError: an id below 0 or from `vocab_size` on.
        """
        for ids in self.samples():
            low, high = int(ids.min()), int(ids.max())
            if low < 0 or high >= vocab_size:
                size = sum(size for _, size in self._names_and_sizes)
                raise InputError(
                    f"{self.files[0]}: id {low if low < 0 else high} found, outside a vocabulary of {vocab_size}, in "
                    f"{size} bytes read as {self.dtype.name}; give the right dtype, or their own vocabulary"
                )

    def samples(self) -> list[np.ndarray]:
        """64 stretches of 1,024 ids, evenly spread, the first and the last ids among them."""
        length = min(_SAMPLE_LENGTH, self.num_tokens)
        last = self.num_tokens - length
        # Integers throughout: floats lose positions beyond 2^53 bytes and differ between versions.
        starts = sorted({last * place // (_SAMPLE_PLACES - 1) for place in range(_SAMPLE_PLACES)})
        return [self.read(start, length) for start in starts]

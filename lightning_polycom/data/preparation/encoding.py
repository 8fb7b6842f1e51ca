"""Segments of units to token ids: the work that takes long. The file of a segment is there whole or not at all."""

import hashlib
import io
import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lightning_polycom.atomic import atomic_path
from lightning_polycom.data.preparation.decisions import TRAIN, VALIDATION, read_codes
from lightning_polycom.data.preparation.heldout_tasks import HeldOutPool
from lightning_polycom.data.preparation.survey import Segment
from lightning_polycom.data.preparation.workers import report
from lightning_polycom.data.repetition import has_repetition
from lightning_polycom.data.shards import token_dtype
from lightning_polycom.data.sources import Columns, Document, Unit, read_documents
from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.errors import InputError

SPLITS = {TRAIN: "train", VALIDATION: "validation"}

_BATCH_CHARACTERS = 500_000
_BATCH_DOCUMENTS = 1024


class Encoder(NamedTuple):
    """What is the same for all segments: the tokenizer's file and tokens, what is left out, and where codes lie."""

    tokenizer: Path
    tokenizer_sha256: str
    eos_token: str
    bos_token: str | None
    drop_repetitions: bool
    codes: Path
    folder: Path


class EncodeTask(NamedTuple):
    """Consecutive segments of a unit, with the number of the unit's first document among all."""

    encoder: Encoder
    unit: Unit
    columns: Columns
    first_document: int
    segments: list[tuple[Segment, Path]]


def segment_path(encoder: Encoder, unit: Unit, segment: Segment, first_document: int) -> Path:
    """Where the ids of a segment lie: a name that changes with everything that decides them.

    So work that is finished can be used again whatever else has changed, and is never used by mistake.
    """
    codes = read_codes(encoder.codes, first_document + segment.first, segment.num_documents)
    decisive = [
        unit.key,
        segment,
        hashlib.sha256(codes.tobytes()).hexdigest(),
        encoder[1:5],
    ]
    return encoder.folder / f"{hashlib.sha256(json.dumps(decisive).encode()).hexdigest()}.npz"


def encode_segments(task: EncodeTask) -> None:
    """Writes the file of each segment of a task.

    A file is an .npz: of each split the ids of all documents (`<split>_ids`), tokens and UTF-8 bytes of each
    (`<split>_tokens`, `<split>_bytes`); the held-out documents that questions may be made from, as JSON; and the number
    of documents that were left out for their repetitions.

    Raises:
        InputError: the unit has other documents than when it was surveyed.
    """
    encoder = task.encoder
    tokenizer = _tokenizer(encoder.tokenizer, encoder.eos_token, encoder.bos_token)
    documents = (d for _, d in read_documents(task.unit, task.columns, task.segments[0][0].position))
    for segment, path in task.segments:
        codes = read_codes(encoder.codes, task.first_document + segment.first, segment.num_documents)
        encoded = EncodedSegment(tokenizer, encoder.drop_repetitions)
        count = 0
        for batch in _batches(islice(documents, segment.num_documents)):
            encoded.add(batch, codes[count : count + len(batch)])
            count += len(batch)
        if count != segment.num_documents:
            raise InputError(f"sources: text of {task.unit.domain} changed while it was read; run it again")
        encoded.save(path)


class EncodedSegment:
    """The documents of a segment, encoded so far."""

    def __init__(self, tokenizer: Tokenizer, drop_repetitions: bool):
        self._tokenizer, self._drop_repetitions = tokenizer, drop_repetitions
        self._dtype = token_dtype(tokenizer.vocab_size)
        self._parts: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS.values()}
        self._bytes: dict[str, list[int]] = {split: [] for split in SPLITS.values()}
        self._pool, self._num_repetitive = HeldOutPool(), 0

    def add(self, documents: list[Document], codes: np.ndarray) -> None:
        """Encodes the documents whose codes name a split; with repetitions dropped, it may be fewer."""
        kept = [(SPLITS[int(code)], d) for code, d in zip(codes, documents, strict=True) if code in SPLITS]
        encodings = self._tokenizer.encode_batch([document.text for _, document in kept])
        num_bytes = num_tokens = 0
        for (split, document), ids in zip(kept, encodings, strict=True):
            array = self._framed(ids)
            size = len(document.text.encode())
            num_bytes, num_tokens = num_bytes + size, num_tokens + len(array)
            if split == "train" and self._drop_repetitions and has_repetition(array):
                self._num_repetitive += 1
                continue
            self._parts[split].append(array)
            self._bytes[split].append(size)
            if split == "validation":
                self._pool.add(document)
        report(len(documents), num_bytes, num_tokens)

    def save(self, path: Path) -> None:
        """Writes the file, atomically."""
        arrays = {"num_repetitive": np.array(self._num_repetitive)}
        for split, parts in self._parts.items():
            arrays[f"{split}_ids"] = np.concatenate([np.empty(0, self._dtype), *parts])
            arrays[f"{split}_tokens"] = np.array([len(part) for part in parts], np.int64)
            arrays[f"{split}_bytes"] = np.array(self._bytes[split], np.int64)
        arrays["held_out"] = np.frombuffer(json.dumps(self._pool.documents).encode(), np.uint8)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def _framed(self, ids: list[int]) -> np.ndarray:
        """The ids of a document with beginning of text, if there is one, and end of text."""
        tokenizer = self._tokenizer
        before = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        return np.array([*before, *ids, tokenizer.eos_token_id], self._dtype)


def read_held_out(held_out: np.ndarray) -> list[Document]:
    """The held-out documents in a segment's file."""
    return [Document(*entry) for entry in json.load(io.BytesIO(held_out.tobytes()))]


@lru_cache(maxsize=1)
def _tokenizer(path: Path, eos_token: str, bos_token: str | None) -> Tokenizer:
    return Tokenizer.load(path, eos_token, bos_token)


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    """Batches large enough to be encoded in parallel and small enough for memory."""
    batch, characters = [], 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if characters >= _BATCH_CHARACTERS or len(batch) >= _BATCH_DOCUMENTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch

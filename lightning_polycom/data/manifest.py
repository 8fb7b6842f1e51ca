"""What a prepared folder says of itself: `manifest.json`."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lightning_polycom.atomic import write_json
from lightning_polycom.errors import InputError

_FORMAT_FAMILY = "lightning_polycom.shards"
FORMAT = f"{_FORMAT_FAMILY}/1"
FILE_NAME = "manifest.json"
DTYPES = ("uint16", "uint32")
_CHECKED_TYPES = (int, str, int | None, str | None)


@dataclass(frozen=True)
class ShardFile:
    """One file of tokens: its path in the folder, its place, its counts and the SHA-256 of its bytes.

    `num_bytes` counts the UTF-8 bytes of the text; end-of-text tokens count as tokens and not as bytes.
    """

    file: str
    split: str
    domain: str
    num_tokens: int
    num_documents: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class TokenizerRecord:
    """The tokenizer of a prepared folder: its file there, the SHA-256 of it, and what a model must know of it.

    The beginning-of-text token is None where documents have none before them.
    """

    file: str
    sha256: str
    vocab_size: int
    eos_token: str
    eos_token_id: int
    bos_token: str | None = None
    bos_token_id: int | None = None


@dataclass
class DocumentCounts:
    """Documents of a domain: all that have text, those whose exact text came before, and those that are left out."""

    num_documents: int = 0
    num_duplicates: int = 0
    num_copies_of_held_out: int = 0
    num_dropped_duplicates: int = 0
    num_dropped_repetitions: int = 0


@dataclass(frozen=True)
class Manifest:
    """The contents of a prepared folder.

    `fingerprint` identifies the token streams whatever they were made from; `recipe_fingerprint` identifies the
    settings and the source files, and decides whether the folder can be used again. `documents` has the counts of each
    domain; folders of earlier versions have none.
    """

    dtype: str
    tokenizer: TokenizerRecord
    document_rule: str
    recipe: dict[str, Any]
    recipe_fingerprint: str
    fingerprint: str
    shards: list[ShardFile]
    documents: dict[str, DocumentCounts] = field(default_factory=dict)
    format: str = FORMAT

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "Manifest":
        """Reads `folder`/manifest.json.

        Raises:
            InputError: no manifest, or one that is malformed or of another format.
        """
        path = Path(folder) / FILE_NAME
        if not path.is_file():
            raise InputError(f"{path}: not found; make the token shards with `polycom prepare --output {folder}`")
        try:
            return _parse(json.loads(path.read_bytes()))
        except (ValueError, TypeError, KeyError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise InputError(
                f"{path}: malformed ({reason}); delete {folder} and run `polycom prepare --output {folder}`"
            ) from error

    def save(self, folder: str | os.PathLike) -> None:
        """Writes `folder`/manifest.json, atomically."""
        write_json(Path(folder) / FILE_NAME, asdict(self))

    def domains(self, split: str) -> list[str]:
        """The domains of a split, in the order of their shards."""
        return list(dict.fromkeys(shard.domain for shard in self.shards if shard.split == split))


def is_native(folder: str | os.PathLike) -> bool:
    """Whether `folder` has a manifest of `polycom prepare`, be it damaged; other tools use the same file name."""
    path = Path(folder) / FILE_NAME
    if not path.is_file():
        return False
    content = path.read_bytes()
    if _FORMAT_FAMILY.encode() in content:
        return True
    try:
        json.loads(content)
    except ValueError:
        return True
    return False


def content_fingerprint(tokenizer_sha256: str, shards: Iterable[ShardFile]) -> str:
    """SHA-256 over the tokenizer and every shard's split, domain and contents, in order, in hex."""
    return named_fingerprint(tokenizer_sha256, ((shard.split, shard.domain, shard.sha256) for shard in shards))


def named_fingerprint(tokenizer_sha256: str, parts: Iterable[tuple[str, str, str]]) -> str:
    """SHA-256 over the tokenizer and (split, domain, hash of the contents) of each part, in order, in hex."""
    content = [tokenizer_sha256, *(list(part) for part in parts)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _parse(value: Any) -> Manifest:
    """Raises ValueError, TypeError or KeyError where the value is no manifest."""
    if not isinstance(value, dict):
        raise TypeError("not a JSON object")
    if value["format"] != FORMAT:
        raise ValueError(f"format {value['format']!r}, this version reads {FORMAT!r}")
    manifest = _build(
        Manifest,
        {
            **value,
            "tokenizer": _build(TokenizerRecord, value["tokenizer"]),
            "shards": [_build(ShardFile, shard) for shard in value["shards"]],
            "documents": {name: _build(DocumentCounts, counts) for name, counts in value.get("documents", {}).items()},
        },
    )
    if manifest.dtype not in DTYPES:
        raise ValueError(f"dtype {manifest.dtype!r}, known are {', '.join(DTYPES)}")
    for file in [manifest.tokenizer.file, *(shard.file for shard in manifest.shards)]:
        # A manifest from elsewhere must not point out of its folder.
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise ValueError(f"file {file!r} lies outside the folder")
    return manifest


def _build(kind: type, value: dict[str, Any]) -> Any:
    """An instance of the dataclass `kind`, with the type of every plain field checked."""
    for part in fields(kind):
        if part.default is not MISSING and part.name not in value:
            continue
        if part.type in _CHECKED_TYPES and not isinstance(value[part.name], part.type):
            raise TypeError(f"{part.name} is {value[part.name]!r}")
    return kind(**value)

"""Token shards: raw little-endian token ids on disk, written as a stream and read window by window.

manifest.json, tokenizer.json
<split>/<domain>-00000.bin              uint16, or uint32 for vocabularies over 65,536 ids
<split>/<domain>-00000.documents.npy    int64, num_documents + 1 offsets of documents in that file
"""

import hashlib
import os
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lightning_polycom.atomic import atomic_path
from lightning_polycom.data.formats import ForeignShards, open_foreign
from lightning_polycom.data.manifest import FILE_NAME, Manifest, ShardFile, content_fingerprint, is_native
from lightning_polycom.data.token_sequence import Segment, TokenSequence, parse_dtype
from lightning_polycom.errors import InputError

_NPY_HEADER_BYTES = 128
_BLOCK_BYTES = 8 << 20


def token_dtype(vocab_size: int) -> np.dtype:
    """The little-endian dtype that holds every id of a vocabulary."""
    return np.dtype("<u2") if vocab_size <= 65_536 else np.dtype("<u4")


class ShardWriter:
    """Writes the documents of one split and domain, starting a new file before one would exceed `shard_tokens`.

    Documents are never cut: one longer than `shard_tokens` gets a file of its own. Memory is one document and
    the offsets of one shard.
    """

    def __init__(self, folder: Path, split: str, domain: str, dtype: np.dtype, shard_tokens: int):
        self.folder, self.split, self.domain = folder, split, domain
        self.dtype, self.shard_tokens = dtype, shard_tokens
        self._shards: list[ShardFile] = []
        self._file = None

    def add(self, ids: Sequence[int], num_bytes: int) -> None:
        """Appends one document: its ids, end of text included, and the UTF-8 bytes of its text."""
        self.add_documents(np.array(ids, self.dtype), np.array([len(ids)]), np.array([num_bytes]))

    def add_documents(self, ids: np.ndarray, tokens: np.ndarray, num_bytes: np.ndarray) -> None:
        """Appends documents: all their ids, and the tokens and the UTF-8 bytes of each."""
        ends = np.cumsum(tokens)
        first = begin = 0
        while first < len(tokens):
            if self._file is None:
                self._start()
            room = self.shard_tokens - int(self._offsets[-1])
            last = int(np.searchsorted(ends, begin + room, side="right"))
            if last == first and self._offsets[-1] == 0:
                last = first + 1  # longer than a whole file
            if last > first:
                end = int(ends[last - 1])
                self._write(ids[begin:end], ends[first:last] - begin, int(num_bytes[first:last].sum()))
                first, begin = last, end
            if first < len(tokens):
                self._finish()

    def close(self) -> list[ShardFile]:
        """Finishes the last file and describes all of them, in order."""
        if self._file is not None:
            self._finish()
        return self._shards

    def _start(self) -> None:
        self._name = f"{self.split}/{self.domain}-{len(self._shards):05d}.bin"
        path = self.folder / self._name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._digest = path.open("wb"), hashlib.sha256()
        self._offsets, self._num_bytes = array("q", [0]), 0

    def _write(self, ids: np.ndarray, ends: np.ndarray, num_bytes: int) -> None:
        """Appends to the open file documents that end at `ends`, counted from the first of `ids`."""
        data = ids.astype(self.dtype, copy=False).tobytes()
        self._file.write(data)
        self._digest.update(data)
        self._offsets.frombytes((ends + self._offsets[-1]).astype(np.int64).tobytes())
        self._num_bytes += num_bytes

    def _finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        with atomic_path(_offsets_path(self.folder / self._name)) as temporary, temporary.open("wb") as file:
            np.save(file, np.array(self._offsets, dtype="<i8"), allow_pickle=False)
        self._shards.append(
            ShardFile(
                file=self._name,
                split=self.split,
                domain=self.domain,
                num_tokens=self._offsets[-1],
                num_documents=len(self._offsets) - 1,
                num_bytes=self._num_bytes,
                sha256=self._digest.hexdigest(),
            )
        )


class TokenShards(TokenSequence):
    """The tokens of some native shards as one sequence.

    Attributes:
        num_tokens, num_documents, num_bytes: Sums over the shards; bytes are UTF-8 bytes of the text.
        fingerprint: SHA-256, in hex, of the tokenizer's and the shards' contents.
        eos_token_id: The id that ends every document.
    """

    def __init__(self, folder: Path, manifest: Manifest, shards: list[ShardFile]):
        dtype = np.dtype(manifest.dtype).newbyteorder("<")
        super().__init__(dtype, [Segment(folder / shard.file, 0, shard.num_tokens) for shard in shards])
        self.num_documents = sum(shard.num_documents for shard in shards)
        self.num_bytes = sum(shard.num_bytes for shard in shards)
        self.fingerprint = content_fingerprint(manifest.tokenizer.sha256, shards)
        self.eos_token_id = manifest.tokenizer.eos_token_id

    def document_bounds(self, file: int) -> np.ndarray:
        """Where the documents of `files[file]` begin in that file, and its end: int64 (documents + 1,), in tokens."""
        return np.load(_offsets_path(self.files[file]), mmap_mode="r", allow_pickle=False)


def open_shards(
    path: str | os.PathLike | Sequence[str | os.PathLike],
    split: str = "train",
    domain: str | None = None,
    *,
    dtype: str | np.dtype | None = None,
    vocab_size: int | None = None,
) -> TokenShards | ForeignShards:
    """Opens the shards of a split, or of one domain of it, without reading a token; also shards of other tools.

    Other tools' files are used in place, found by their contents: dolma (OLMo), Megatron, llm.c, nanoGPT, NumPy and a
    Hugging Face data set with a column `input_ids`. They have no domains, and `num_documents` is None where the format
    does not record documents. In a folder whose files' names tell train, val and test apart, `split` chooses among
    them; files named one by one are taken as they are.

    Args:
        path: A folder written by `polycom prepare`, or one .bin file in it, or `<folder>/<split>/<domain>` (which fix
            split and domain). Or a file, a folder, a glob or Megatron's prefix of another tool's, or a list of such,
            read as one sequence.
        split: `train` or `validation`.
        domain: One domain; default all, in the manifest's order.
        dtype: Of the ids; needed only for files that do not tell (nanoGPT's). With it, opening reads the .csv.gz of
            dolma's first file only, otherwise that of each, to check that nothing is missing.
        vocab_size: Refuse shards that have an id outside it: by the manifest, or in a sample of constant size.

    Raises:
        InputError: no shards there, no such split or domain, a missing or truncated file, another tokenizer, a dtype
            or a vocabulary that does not fit.
    """
    folder = native_folder(path)
    if folder is not None:
        return _open_native(folder, Path(path), split, domain, dtype, vocab_size)
    if domain is not None:
        raise InputError(f"{path}: shards of another tool have no domain {domain!r}; leave it out")
    return open_foreign(path, split, dtype, vocab_size)


def _open_native(
    folder: Path, path: Path, split: str, domain: str | None, dtype: str | np.dtype | None, vocab_size: int | None
) -> TokenShards:
    manifest = Manifest.load(folder)
    shards = _select_file(path, manifest) if folder != path else _select(path, manifest, split, domain)
    if dtype is not None and parse_dtype(dtype) != np.dtype(manifest.dtype):
        raise InputError(f"{path}: its ids are {manifest.dtype}, not {parse_dtype(dtype).name}; leave the dtype out")
    if vocab_size is not None and manifest.tokenizer.vocab_size > vocab_size:
        raise InputError(
            f"{path}: made with a vocabulary of {manifest.tokenizer.vocab_size}, {vocab_size} are given; use its own"
        )
    damage = find_damage(folder, manifest, shards)
    if damage is not None:
        raise InputError(f"{damage}; delete {folder} and run `polycom prepare --output {folder}` again")
    return TokenShards(folder, manifest, shards)


def native_folder(path: str | os.PathLike | Sequence[str | os.PathLike]) -> Path | None:
    """The prepared folder that a path is or lies in, or None for another tool's files.

    Raises:
        InputError: the path is a folder within a prepared one.
    """
    if not isinstance(path, (str, os.PathLike)):
        return None
    path = Path(path)
    if path.is_dir() and is_native(path):
        return path
    if path.is_dir() and is_native(path.parent):
        raise InputError(f"{path}: a part of a prepared folder; open {path.parent} with split={path.name!r}")
    return path.parent.parent if not path.is_dir() and is_native(path.parent.parent) else None


def find_damage(folder: Path, manifest: Manifest, shards: list[ShardFile]) -> str | None:
    """What is wrong with the tokenizer or with the sizes of the shards' files, or None; reads no tokens."""
    tokenizer = folder / manifest.tokenizer.file
    if not tokenizer.is_file():
        return f"{tokenizer}: missing"
    found = hashlib.sha256(tokenizer.read_bytes()).hexdigest()
    if found != manifest.tokenizer.sha256:
        return f"{tokenizer}: its SHA-256 is {found}, the shards were made with {manifest.tokenizer.sha256}"
    itemsize = np.dtype(manifest.dtype).itemsize
    for shard in shards:
        path = folder / shard.file
        offsets_bytes = _NPY_HEADER_BYTES + 8 * (shard.num_documents + 1)
        for file, expected in ((path, shard.num_tokens * itemsize), (_offsets_path(path), offsets_bytes)):
            if not file.is_file():
                return f"{file}: missing"
            if file.stat().st_size != expected:
                return f"{file}: {file.stat().st_size} bytes found, {expected} expected"
    return None


def verify_checksums(folder: str | os.PathLike, report: Callable[[int], None] = lambda _: None) -> None:
    """Reads every shard of a prepared folder and compares its SHA-256 with the manifest's.

    `report` is called with the number of bytes after each few megabytes.

    Raises:
        InputError: a file is missing, truncated or changed.
    """
    folder = Path(folder)
    manifest = Manifest.load(folder)
    damage = find_damage(folder, manifest, manifest.shards)
    for shard in manifest.shards if damage is None else []:
        found = _digest(folder / shard.file, report)
        if found != shard.sha256:
            damage = f"{folder / shard.file}: its SHA-256 is {found}, the manifest says {shard.sha256}"
            break
    if damage is not None:
        raise InputError(f"{damage}; delete {folder} and run `polycom prepare --output {folder}` again")


def _digest(path: Path, report: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            report(len(block))
    return digest.hexdigest()


def _select(folder: Path, manifest: Manifest, split: str, domain: str | None) -> list[ShardFile]:
    shards = [s for s in manifest.shards if s.split == split and domain in (None, s.domain)]
    if not shards:
        found = ", ".join(dict.fromkeys(f"{s.split}/{s.domain}" for s in manifest.shards))
        raise InputError(f"{folder}: no shards of {split}/{domain or '*'}; it has {found}")
    return shards


def _select_file(path: Path, manifest: Manifest) -> list[ShardFile]:
    here = (path.parent.name, path.name)
    shards = [s for s in manifest.shards if s.file == "/".join(here) or (s.split, s.domain) == here]
    if not shards:
        raise InputError(f"{path}: not among the shards of {path.parent.parent / FILE_NAME}; open the folder instead")
    return shards


def _offsets_path(path: Path) -> Path:
    return path.with_suffix(".documents.npy")

"""Token shards: raw little-endian token ids on disk, written as a stream and read through memory maps.

manifest.json, tokenizer.json
<split>/<domain>-00000.bin              uint16, or uint32 for vocabularies over 65,536 ids
<split>/<domain>-00000.documents.npy    int64, num_documents + 1 offsets of documents in that file
"""

import hashlib
import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lightning_polycom.atomic import atomic_path
from lightning_polycom.data.manifest import FILE_NAME, Manifest, ShardFile, content_fingerprint
from lightning_polycom.errors import InputError

# Each map holds a file descriptor, of which a process usually has 1,024.
_MAX_OPEN_MAPS = 256
_NPY_HEADER_BYTES = 128


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
        if self._file is not None and self._offsets[-1] + len(ids) > self.shard_tokens:
            self._finish()
        if self._file is None:
            self._start()
        data = np.array(ids, dtype=self.dtype).tobytes()
        self._file.write(data)
        self._digest.update(data)
        self._offsets.append(self._offsets[-1] + len(ids))
        self._num_bytes += num_bytes

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


class TokenShards:
    """The tokens of some shards as one sequence; only the slices that are asked for are read and copied.

    Attributes:
        num_tokens, num_documents, num_bytes: Sums over the shards; bytes are UTF-8 bytes of the text.
        dtype: numpy dtype of the ids on disk and in `read`.
        fingerprint: SHA-256, in hex, of the tokenizer's and the shards' contents.
        eos_token_id: The id that ends every document.
    """

    def __init__(self, folder: Path, manifest: Manifest, shards: list[ShardFile]):
        self.num_tokens = sum(shard.num_tokens for shard in shards)
        self.num_documents = sum(shard.num_documents for shard in shards)
        self.num_bytes = sum(shard.num_bytes for shard in shards)
        self.dtype = np.dtype(manifest.dtype).newbyteorder("<")
        self.fingerprint = content_fingerprint(manifest.tokenizer.sha256, shards)
        self.eos_token_id = manifest.tokenizer.eos_token_id
        self._files = [folder / shard.file for shard in shards]
        self._bounds = np.cumsum([0, *(shard.num_tokens for shard in shards)])
        self._maps: dict[int, np.ndarray] = {}

    def read(self, start: int, length: int) -> np.ndarray:
        """Tokens [start, start + length), across shard boundaries: `dtype` (length,).

        Raises:
            InputError: the range leaves [0, num_tokens].
        """
        out = np.empty(length, self.dtype)
        self._fill(out, start)
        return out

    def read_batch(self, starts: np.ndarray, length: int) -> np.ndarray:
        """Windows of `length` tokens at each of `starts`: int64 (len(starts), length).

        Raises:
            InputError: a range leaves [0, num_tokens].
        """
        out = np.empty((len(starts), length), np.int64)
        for row, start in zip(out, starts, strict=True):
            self._fill(row, int(start))
        return out

    def __getstate__(self) -> dict:
        # A pickled memory map would carry its whole file.
        return {**self.__dict__, "_maps": {}}

    def _fill(self, out: np.ndarray, start: int) -> None:
        if start < 0 or start + len(out) > self.num_tokens:
            raise InputError(
                f"tokens {start} to {start + len(out)} lie outside {self._files[0].parent}, which has "
                f"{self.num_tokens} tokens; read within them"
            )
        shard = int(np.searchsorted(self._bounds, start, side="right")) - 1
        filled = 0
        while filled < len(out):
            offset = start + filled - int(self._bounds[shard])
            part = self._map(shard)[offset : offset + len(out) - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            shard += 1

    def _map(self, shard: int) -> np.ndarray:
        if shard not in self._maps:
            if len(self._maps) >= _MAX_OPEN_MAPS:
                self._maps.pop(next(iter(self._maps)))
            self._maps[shard] = np.memmap(self._files[shard], self.dtype, mode="r")
        return self._maps[shard]


def open_shards(path: str | os.PathLike, split: str = "train", domain: str | None = None) -> TokenShards:
    """Opens the shards of a split, or of one domain of it, without reading a token.

    Args:
        path: A folder written by `polycom prepare`, or one .bin file in it (which fixes split and domain).
        split: `train` or `validation`.
        domain: One domain; default all, in the manifest's order.

    Raises:
        InputError: no native shards there, no such split or domain, a missing or truncated file, another tokenizer.
    """
    path = Path(path)
    folder = path.parent.parent if path.suffix == ".bin" else path
    if not (folder / FILE_NAME).is_file():
        raise InputError(
            f"{path}: no prepared token shards (no {folder / FILE_NAME}); make them with `polycom prepare`; "
            "shards of other tools are not read"
        )
    manifest = Manifest.load(folder)
    shards = _select_file(path, manifest) if folder != path else _select(path, manifest, split, domain)
    damage = find_damage(folder, manifest, shards)
    if damage is not None:
        raise InputError(f"{damage}; delete {folder} and run `polycom prepare --output {folder}` again")
    return TokenShards(folder, manifest, shards)


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


def verify_checksums(folder: str | os.PathLike) -> None:
    """Reads every shard of a prepared folder and compares its SHA-256 with the manifest's.

    Raises:
        InputError: a file is missing, truncated or changed.
    """
    folder = Path(folder)
    manifest = Manifest.load(folder)
    damage = find_damage(folder, manifest, manifest.shards)
    for shard in manifest.shards if damage is None else []:
        with (folder / shard.file).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != shard.sha256:
            damage = f"{folder / shard.file}: its SHA-256 is {found}, the manifest says {shard.sha256}"
            break
    if damage is not None:
        raise InputError(f"{damage}; delete {folder} and run `polycom prepare --output {folder}` again")


def _select(folder: Path, manifest: Manifest, split: str, domain: str | None) -> list[ShardFile]:
    shards = [s for s in manifest.shards if s.split == split and domain in (None, s.domain)]
    if not shards:
        found = ", ".join(dict.fromkeys(f"{s.split}/{s.domain}" for s in manifest.shards))
        raise InputError(f"{folder}: no shards of {split}/{domain or '*'}; it has {found}")
    return shards


def _select_file(path: Path, manifest: Manifest) -> list[ShardFile]:
    shards = [s for s in manifest.shards if s.file == f"{path.parent.name}/{path.name}"]
    if not shards:
        raise InputError(f"{path}: not among the shards of {path.parent.parent / FILE_NAME}; open the folder instead")
    return shards


def _offsets_path(path: Path) -> Path:
    return path.with_suffix(".documents.npy")

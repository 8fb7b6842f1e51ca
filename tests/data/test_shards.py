import pickle
import shutil

import numpy as np
import pytest

from lightning_polycom.data import Tokenizer, open_shards, token_sequence
from lightning_polycom.data.manifest import Manifest, TokenizerRecord, content_fingerprint
from lightning_polycom.data.shards import ShardWriter, token_dtype, verify_checksums
from lightning_polycom.errors import InputError


@pytest.fixture
def copy(small_prepared, tmp_path):
    return shutil.copytree(small_prepared[0], tmp_path / "copy")


def write_documents(folder, documents, shard_tokens, vocab_size=600):
    """Writes documents (lists of ids) as a prepared folder of one train domain."""
    Tokenizer.train(["ab ab abc"], 258).save(folder / "tokenizer.json")
    record = Tokenizer.load(folder / "tokenizer.json")
    writer = ShardWriter(folder, "train", "d", token_dtype(vocab_size), shard_tokens)
    for document in documents:
        writer.add(document, num_bytes=2 * len(document))
    shards = writer.close()
    tokenizer = TokenizerRecord("tokenizer.json", record.fingerprint, vocab_size, record.eos_token, 0)
    fingerprint = content_fingerprint(record.fingerprint, shards)
    Manifest(token_dtype(vocab_size).name, tokenizer, "", {}, "", fingerprint, shards).save(folder)
    return shards


def test_the_stream_comes_back_and_documents_are_never_cut(tmp_path):
    documents = [list(range(n, n + length)) for n, length in enumerate([3, 4, 2, 12, 1, 5])]
    shards = write_documents(tmp_path, documents, shard_tokens=8)
    assert [shard.num_tokens for shard in shards] == [7, 2, 12, 6]
    assert [shard.num_documents for shard in shards] == [2, 1, 1, 2]
    assert [shard.file for shard in shards][:2] == ["train/d-00000.bin", "train/d-00001.bin"]
    flat = np.concatenate(documents)
    opened = open_shards(tmp_path)
    assert (opened.num_tokens, opened.num_documents, opened.num_bytes) == (27, 6, 54)
    for start in range(28):
        for length in range(28 - start):
            np.testing.assert_array_equal(opened.read(start, length), flat[start : start + length])
    offsets = np.load(tmp_path / "train" / "d-00000.documents.npy", allow_pickle=False)
    assert offsets.dtype == np.int64 and offsets.tolist() == [0, 3, 7]


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, "<u2"), (65_537, "<u4")])
def test_dtype_follows_the_vocabulary(tmp_path, vocab_size, dtype):
    write_documents(tmp_path, [[0, 1, vocab_size - 1]], 100, vocab_size)
    raw = (tmp_path / "train" / "d-00000.bin").read_bytes()
    assert np.frombuffer(raw, dtype).tolist() == [0, 1, vocab_size - 1]
    opened = open_shards(tmp_path)
    assert opened.dtype == np.dtype(dtype)
    assert opened.read(0, 3).tolist() == [0, 1, vocab_size - 1]


def test_an_id_too_large_for_the_dtype_is_refused(tmp_path):
    with pytest.raises(OverflowError):
        ShardWriter(tmp_path, "train", "d", token_dtype(600), 100).add([70_000], 1)


def test_batches_equal_reads(small_prepared):
    shards = open_shards(small_prepared[0])
    starts = np.array([0, 19_990, 5, shards.num_tokens - 33])
    batch = shards.read_batch(starts, 33)
    assert batch.dtype == np.int64 and batch.shape == (4, 33)
    for row, start in zip(batch, starts, strict=True):
        np.testing.assert_array_equal(row, shards.read(int(start), 33))


def test_reads_copy(small_prepared):
    shards = open_shards(small_prepared[0])
    first = shards.read(0, 10)
    first[:] = 0
    assert shards.read(0, 10).any()


@pytest.mark.parametrize(("start", "length"), [(-1, 2), (0, None), (None, 1)])
def test_reads_outside_are_refused(small_prepared, start, length):
    shards = open_shards(small_prepared[0])
    start = shards.num_tokens if start is None else start
    length = shards.num_tokens + 1 if length is None else length
    with pytest.raises(InputError, match="outside"):
        shards.read(start, length)
    with pytest.raises(InputError, match="outside"):
        shards.read_batch(np.array([start]), length)


def test_splits_domains_and_single_files(small_prepared):
    folder, manifest = small_prepared
    whole = open_shards(folder)
    parts = [open_shards(folder, "train", domain) for domain in ("code", "prose")]
    assert whole.num_tokens == sum(part.num_tokens for part in parts)
    np.testing.assert_array_equal(whole.read(parts[0].num_tokens, 50), parts[1].read(0, 50))
    single = open_shards(folder / "train" / "code-00001.bin")
    first = manifest.shards[0].num_tokens
    np.testing.assert_array_equal(single.read(0, 100), whole.read(first, 100))
    assert len({whole.fingerprint, single.fingerprint, *(part.fingerprint for part in parts)}) == 4
    assert whole.eos_token_id == manifest.tokenizer.eos_token_id
    for split, domain in (("test", None), ("train", "poetry")):
        with pytest.raises(InputError, match=r"train/code, train/prose"):
            open_shards(folder, split, domain)


def test_few_files_are_held_open_and_a_pickle_is_small(small_prepared, monkeypatch):
    monkeypatch.setattr(token_sequence, "_max_open_files", lambda: 1)
    shards = open_shards(small_prepared[0])
    whole = shards.read(0, shards.num_tokens)
    assert len(shards._open) == 1
    assert len(pickle.dumps(shards)) < 5000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(shards)).read(7, 99), whole[7:106])


@pytest.mark.parametrize(
    "file", ["train/code-00001.bin", "train/code-00000.documents.npy", "validation/code-00000.bin"]
)
def test_truncated_and_missing_files_are_found_when_opened(copy, file):
    split = file.split("/")[0]
    path = copy / file
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match=rf"{path.name}: {size - 2} bytes found, {size} expected.*polycom prepare"):
        open_shards(copy, split)
    path.unlink()
    with pytest.raises(InputError, match=f"{path.name}: missing"):
        open_shards(copy, split)


def test_another_tokenizer_is_found_when_opened(copy, small_prepared):
    path = copy / "tokenizer.json"
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(InputError, match=small_prepared[1].tokenizer.sha256):
        open_shards(copy)
    path.unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json: missing"):
        open_shards(copy)


def test_checksums(copy):
    verify_checksums(copy)
    path = copy / "train" / "code-00000.bin"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    open_shards(copy)  # sizes are right, and opening reads no tokens
    with pytest.raises(InputError, match=r"code-00000\.bin: its SHA-256"):
        verify_checksums(copy)


def test_what_holds_no_shards(tmp_path):
    stray = tmp_path / "notes.txt"
    stray.write_text("no ids\n", encoding="utf-8")
    for path in (tmp_path, tmp_path / "absent", stray):
        with pytest.raises(InputError, match=str(path)):
            open_shards(path)


def test_a_stray_bin_file_is_refused(copy):
    shutil.copy(copy / "train" / "code-00000.bin", copy / "train" / "stray.bin")
    with pytest.raises(InputError, match=r"stray\.bin: not among"):
        open_shards(copy / "train" / "stray.bin")

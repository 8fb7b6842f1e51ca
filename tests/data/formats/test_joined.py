"""From paths to files, and the joined sequence: what is chosen, what is refused, what the fingerprint covers."""

import pickle
import time

import numpy as np
import pytest

from lightning_polycom.data import open_shards, token_sequence
from lightning_polycom.errors import InputError


def write_numpy(folder, **arrays):
    folder.mkdir(exist_ok=True)
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", np.array(values, "<u2"))
    return folder


def ids_of(*arguments):
    shards = open_shards(*arguments)
    return shards.read(0, shards.num_tokens).tolist()


def test_files_folders_globs_and_lists(tmp_path):
    folder = write_numpy(tmp_path / "set", b=[3, 4], a=[1, 2], c=[5])
    assert ids_of(folder) == [1, 2, 3, 4, 5]
    assert ids_of(folder / "b.npy") == [3, 4]
    assert ids_of(str(folder / "[bc]*")) == [3, 4, 5]
    assert ids_of([folder / "c.npy", folder / "a.npy"]) == [5, 1, 2]
    assert ids_of([folder / "a.npy", folder / "a.npy"]) == [1, 2, 1, 2]


def test_names_tell_splits_apart_in_a_folder(tmp_path):
    folder = write_numpy(tmp_path / "set", wiki_train_0=[1], wiki_train_1=[2], wiki_val_0=[3], test=[4])
    assert ids_of(folder) == [1, 2]
    assert ids_of(folder, "validation") == [3]
    assert ids_of(str(folder / "*.npy")) == [4, 1, 2, 3]
    unnamed = write_numpy(tmp_path / "unnamed", a=[1])
    with pytest.raises(InputError, match="no file of split 'validation', only of train"):
        open_shards(unnamed, "validation")


def test_what_is_not_there(tmp_path):
    for path, message in (
        (tmp_path / "absent", "not found"),
        (tmp_path, "no token shards"),
        (tmp_path / "*.bin", "matches no file"),
        ([], "the list is empty"),
    ):
        with pytest.raises(InputError, match=message):
            open_shards(path)
    with pytest.raises(InputError, match="no domain 'wiki'"):
        open_shards(write_numpy(tmp_path / "set", a=[1]), domain="wiki")


def test_dtypes_are_not_mixed(tmp_path):
    folder = write_numpy(tmp_path, a=[1])
    np.save(folder / "b.npy", np.array([1], "<u4"))
    with pytest.raises(InputError, match=r"b\.npy: its ids are uint32, those of .*a\.npy are uint16"):
        open_shards(folder)


def test_fingerprint(tmp_path):
    ids = np.random.default_rng(0).integers(0, 1000, 300_000)
    folder = write_numpy(tmp_path / "set", a=ids[:200_000], b=ids[200_000:])
    original = open_shards(folder).fingerprint
    moved = folder.rename(tmp_path / "moved")
    assert open_shards(moved).fingerprint == original
    assert open_shards([moved / "b.npy", moved / "a.npy"]).fingerprint != original
    write_numpy(moved, b=[*ids[200_000:-1], ids[-1] + 1])  # the last id lies in the last sample
    assert open_shards(moved).fingerprint != original
    write_numpy(moved, b=ids[200_000:-1])
    assert open_shards(moved).fingerprint != original


def test_many_files_few_open_and_a_small_pickle(tmp_path, monkeypatch):
    monkeypatch.setattr(token_sequence, "_max_open_files", lambda: 2)
    folder = write_numpy(tmp_path, **{f"a{n:03d}": [n, n] for n in range(50)})
    shards = open_shards(folder)
    assert shards.read(0, 100).tolist() == [n // 2 for n in range(100)]
    assert len(shards._open) == 2
    copy = pickle.loads(pickle.dumps(shards))
    assert copy.read(31, 3).tolist() == [15, 16, 16]
    assert copy.fingerprint == shards.fingerprint


def test_a_large_sparse_file_opens_at_once(tmp_path):
    path = tmp_path / "train.bin"
    with path.open("wb") as file:
        file.truncate(200 << 30)
    started = time.perf_counter()
    shards = open_shards(path, dtype="uint16", vocab_size=10)
    assert shards.num_tokens == 100 << 30
    assert shards.read(99 << 30, 3).tolist() == [0, 0, 0]
    assert len(shards.fingerprint) == 64
    assert time.perf_counter() - started < 1


def test_prepared_folders_keep_their_own_rules(small_prepared):
    folder, manifest = small_prepared
    assert open_shards(folder, dtype="uint16", vocab_size=512).num_documents > 0
    with pytest.raises(InputError, match="its ids are uint16, not uint32"):
        open_shards(folder, dtype="uint32")
    with pytest.raises(InputError, match="made with a vocabulary of 512, 500 are given"):
        open_shards(folder, vocab_size=500)
    with pytest.raises(InputError, match=r"a part of a prepared folder; open .* with split='train'"):
        open_shards(folder / "train")
    shards = open_shards(folder)
    lengths = [np.diff(shards.document_bounds(file)).sum() for file in range(len(shards.files))]
    assert lengths == [shard.num_tokens for shard in manifest.shards if shard.split == "train"]


def test_native_shards_as_the_memmap_dataset_of_olmo_reads_them(small_prepared):
    """As OLMo does: chunks per file by its size, the rest left out; a chunk by its byte range, as uint16, to int64."""
    folder, manifest = small_prepared
    chunk_size, item_size = 64, np.uint16(0).itemsize
    for shard in manifest.shards:
        path = folder / shard.file
        ours = open_shards(path)
        num_chunks = path.stat().st_size // (item_size * chunk_size)
        assert num_chunks == ours.num_tokens // chunk_size
        mapped = np.memmap(path, dtype=np.uint16)
        for index in range(num_chunks):
            with path.open("rb") as file:
                file.seek(index * item_size * chunk_size)
                chunk = np.frombuffer(file.read(item_size * chunk_size), dtype=np.uint16).astype(np.int_)
            np.testing.assert_array_equal(chunk, ours.read(index * chunk_size, chunk_size))
            np.testing.assert_array_equal(chunk, mapped[index * chunk_size : (index + 1) * chunk_size])

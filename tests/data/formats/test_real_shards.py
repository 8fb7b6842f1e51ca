"""Files that the other tools themselves wrote, against what is recorded of them."""

import hashlib
import json

import numpy as np
import pytest

from lightning_polycom.data import Tokenizer, open_shards
from lightning_polycom.errors import InputError

VOCAB_SIZE = 50_280
FORMATS = {"olmo_npy": None, "megatron": None, "llmc_bin": None, "nanogpt_bin": "uint16", "litdata": None}


def records(folder):
    return json.loads((folder / "manifest.json").read_bytes())["files"]


@pytest.mark.parametrize("name", FORMATS)
def test_each_file_is_as_recorded(shared, name):
    folder = shared / "token_shards" / name
    for record in records(folder):
        shards = open_shards(folder / record["path"], dtype=FORMATS[name], vocab_size=VOCAB_SIZE)
        ids = shards.read(0, shards.num_tokens)
        assert shards.num_tokens == record["tokens"]
        assert shards.dtype == np.dtype(record["dtype"])
        assert ids[:32].tolist() == record["first_32_ids"]
        assert ids[-8:].tolist() == record["last_8_ids"]
        assert hashlib.sha256(ids.astype("<u4").tobytes()).hexdigest() == record["ids_sha256"]
        assert shards.read_batch(np.array([77]), 100)[0].tolist() == ids[77:177].tolist()
        if name in ("olmo_npy", "megatron", "litdata"):
            assert shards.num_documents == record["documents"]
            assert np.diff(shards.document_bounds(0)).tolist() == record["document_lengths"]
        else:
            assert shards.num_documents is None and shards.document_bounds(0) is None


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_is_one_sequence_of_the_split(shared, name):
    folder = shared / "token_shards" / name
    chosen = [record for record in records(folder) if "val" not in record["path"]]
    whole = open_shards(folder, dtype=FORMATS[name])
    assert whole.num_tokens == sum(record["tokens"] for record in chosen)
    parts = [open_shards(folder / record["path"], dtype=FORMATS[name]) for record in chosen]
    joined = np.concatenate([part.read(0, part.num_tokens) for part in parts])
    np.testing.assert_array_equal(whole.read(0, whole.num_tokens), joined)
    listed = open_shards([folder / record["path"] for record in chosen], dtype=FORMATS[name])
    assert listed.fingerprint == whole.fingerprint


def test_ids_are_text(shared):
    tokenizer = Tokenizer.load(shared / "tokenizers" / "allenai_gpt-neox-olmo-dolma-v1_5.json")
    shards = open_shards(shared / "token_shards" / "megatron" / "wiki_text_document")
    assert "the European lobster" in tokenizer.decode(shards.read(0, 200).tolist())


@pytest.mark.parametrize("name", FORMATS)
def test_too_small_a_vocabulary_is_refused(shared, name):
    with pytest.raises(InputError, match=r"id \d+ found, outside a vocabulary of 1000, in \d+ bytes read as u?int"):
        open_shards(shared / "token_shards" / name, dtype=FORMATS[name], vocab_size=1000)


def test_a_wrong_dtype_is_refused(shared):
    folder = shared / "token_shards"
    with pytest.raises(InputError, match=r"313632 bytes found, expected 313632 \(uint16\) or 627264 \(uint32\)"):
        open_shards(folder / "olmo_npy", dtype="uint32")
    for name, size in (("megatron", 313790), ("llmc_bin", 124646)):
        with pytest.raises(InputError, match=f"its {size} bytes hold uint16 ids .*, not uint32"):
            open_shards(folder / name, dtype="uint32")
    with pytest.raises(InputError, match=r"313790 bytes of ids found, expected a multiple of 4 for uint32"):
        open_shards(folder / "nanogpt_bin", dtype="uint32")
    with pytest.raises(
        InputError, match=r"train\.bin: 313790 bytes that begin with no known magic .* give their dtype"
    ):
        open_shards(folder / "nanogpt_bin")


def test_mds_is_not_read_and_says_so(shared):
    folder = shared / "token_shards" / "mds"
    for path in [folder, *folder.iterdir()]:
        with pytest.raises(InputError, match="mds" if path == folder else path.name):
            open_shards(path)
    with pytest.raises(InputError, match=r"shard of MosaicML Streaming"):
        open_shards(folder / "shard.00000.mds", dtype="uint16")


def test_litdata_and_megatron_hold_the_same_ids(shared):
    folder = shared / "token_shards"
    chunks, whole = open_shards(folder / "litdata"), open_shards(folder / "megatron")
    np.testing.assert_array_equal(chunks.read(0, chunks.num_tokens), whole.read(0, whole.num_tokens))

import struct

import numpy as np
import pytest

from lightning_polycom.data import open_shards
from lightning_polycom.data.formats.megatron import DTYPES
from lightning_polycom.errors import InputError

SEQUENCES = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 10]]
DOCUMENTS = [0, 1, 3, 4]  # the second one has two sequences


def write(prefix, code=8, version=1, magic=b"MMIDIDX\x00\x00", modes=b""):
    """A data set as Megatron's builder writes it; returns the paths of the ids and of the index."""
    dtype = np.dtype(DTYPES.get(code, "<u2"))
    ids, index = prefix.with_suffix(".bin"), prefix.with_suffix(".idx")
    np.concatenate(SEQUENCES).astype(dtype).tofile(ids)
    lengths = np.array([len(sequence) for sequence in SEQUENCES], "<i4")
    pointers = np.array([0, *np.cumsum(lengths)[:-1]], "<i8") * dtype.itemsize
    head = magic + struct.pack("<QBQQ", version, code, len(SEQUENCES), len(DOCUMENTS))
    index.write_bytes(head + lengths.tobytes() + pointers.tobytes() + np.array(DOCUMENTS, "<i8").tobytes() + modes)
    return ids, index


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("modes", [b"", bytes(len(SEQUENCES))])
def test_every_integer_dtype(tmp_path, code, modes):
    for path in [*write(tmp_path / "set", code, modes=modes), tmp_path / "set", tmp_path]:
        shards = open_shards(path)
        assert shards.dtype == np.dtype(DTYPES[code])
        assert shards.read(0, 10).tolist() == list(range(1, 11))
        assert shards.num_documents == 3
        assert shards.document_bounds(0).tolist() == [0, 3, 6, 10]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code": 6}, "dtype code 6"),
        ({"code": 7}, "dtype code 7"),
        ({"code": 9}, "dtype code 9"),
        ({"version": 2}, "version 2 found, 1 is known"),
        ({"magic": b"TNTIDX\x00\x00\x00"}, r"begins with b'TNTIDX.*expected b'MMIDIDX"),
    ],
)
def test_other_indices_are_refused(tmp_path, changes, message):
    for path in write(tmp_path / "set", **changes):
        with pytest.raises(InputError, match=rf"set\.idx: {message}"):
            open_shards(path)


def test_sizes_that_do_not_fit(tmp_path):
    ids, index = write(tmp_path / "set")
    whole_ids, whole_index = ids.read_bytes(), index.read_bytes()
    ids.write_bytes(whole_ids[:-2])
    with pytest.raises(InputError, match=r"set\.bin: 18 bytes found, 20 expected by set\.idx for uint16 ids"):
        open_shards(ids)
    ids.write_bytes(whole_ids)
    for kept, expected in ((len(whole_index) - 1, len(whole_index)), (20, 34)):
        index.write_bytes(whole_index[:kept])
        with pytest.raises(InputError, match=rf"set\.idx: {kept} bytes found, {expected} expected"):
            open_shards(ids)
    index.write_bytes(whole_index[:-8] + struct.pack("<q", 3))
    with pytest.raises(InputError, match="documents 0 to 3 of 4 sequences"):
        open_shards(ids)
    index.write_bytes(whole_index)
    ids.unlink()
    with pytest.raises(InputError, match=r"set\.bin: missing, set\.idx is its index"):
        open_shards(index)


@pytest.mark.parametrize(
    ("documents", "message"), [([0, 7, 3, 4], "sequences 0 to 7, it has 4"), ([0, 3, 1, 4], "do not rise from 0")]
)
def test_documents_out_of_order(tmp_path, monkeypatch, documents, message):
    monkeypatch.setattr("test_megatron.DOCUMENTS", documents)
    with pytest.raises(InputError, match=message):
        open_shards(write(tmp_path / "set")[0]).document_bounds(0)


def test_an_empty_last_document(tmp_path, monkeypatch):
    monkeypatch.setattr("test_megatron.DOCUMENTS", [0, 1, 4, 4])
    assert open_shards(write(tmp_path / "set")[0]).document_bounds(0).tolist() == [0, 3, 10, 10]

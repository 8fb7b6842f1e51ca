"""Formats without an index, in files written here, and every way in which they can be damaged."""

import gzip

import numpy as np
import pytest

from lightning_polycom.data import open_shards
from lightning_polycom.errors import InputError


def write_llmc(path, ids, magic=20240520, version=1, count=None, dtype="<u2"):
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, len(ids) if count is None else count
    path.write_bytes(header.tobytes() + np.array(ids, dtype).tobytes())
    return path


def write_dolma(path, documents, dtype="<u2"):
    np.concatenate(documents).astype(dtype).tofile(path)
    ends = np.cumsum([len(document) for document in documents])
    rows = [f"{end - len(d)},{end},id{end},in.jsonl.gz,1\n" for d, end in zip(documents, ends, strict=True)]
    path.with_suffix(".csv.gz").write_bytes(gzip.compress("".join(rows).encode()))
    return path


@pytest.mark.parametrize(("magic", "version", "dtype"), [(20240520, 1, "<u2"), (20240801, 7, "<u4")])
def test_llmc(tmp_path, magic, version, dtype):
    ids = [1, 2, 3, 65_535]
    shards = open_shards(write_llmc(tmp_path / "a.bin", ids, magic, version, dtype=dtype))
    assert shards.read(0, 4).tolist() == ids
    assert shards.dtype == np.dtype(dtype)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magic": 20240521}, "magic number 20240521, known are 20240520, 20240801"),
        ({"version": 2}, "version 2 of magic number 20240520, known is 1"),
        ({"magic": 20240801}, "version 1 of magic number 20240801, known is 7"),
        ({"count": 5}, "1032 bytes found, 1034 expected for the 5 uint16 ids"),
        ({"count": 3}, "1032 bytes found, 1030 expected for the 3 uint16 ids"),
        ({"count": -3}, "1032 bytes found"),
        ({"dtype": "<u4"}, "1040 bytes found, 1032 expected"),
    ],
)
@pytest.mark.parametrize("dtype", [None, "uint16"])
def test_llmc_damage(tmp_path, changes, message, dtype):
    path = write_llmc(tmp_path / "a.bin", [1, 2, 3, 4], **changes)
    with pytest.raises(InputError, match=rf"a\.bin: .*{message}"):
        open_shards(path, dtype=dtype)


def test_llmc_cut_in_its_header(tmp_path):
    path = write_llmc(tmp_path / "a.bin", [1])
    path.write_bytes(path.read_bytes()[:512])
    with pytest.raises(InputError, match="512 bytes found, 1024 expected of the header"):
        open_shards(path)


@pytest.mark.parametrize("dtype", ["<u2", "<u4"])
def test_dolma_tells_its_dtype_by_its_sidecar(tmp_path, dtype):
    documents = [[5, 6, 0], [7, 0], [0], [9, 9, 9, 0]]
    path = write_dolma(tmp_path / "part.npy", documents, dtype)
    for given in (None, dtype):
        shards = open_shards(path, dtype=given)
        assert (shards.dtype, shards.num_documents) == (np.dtype(dtype), 4)
        assert shards.read(0, 10).tolist() == np.concatenate(documents).tolist()
        assert shards.document_bounds(0).tolist() == [0, 3, 5, 6, 10]


def test_dolma_damage(tmp_path):
    path = write_dolma(tmp_path / "part.npy", [[5, 6, 0], [7, 0]])
    whole, sidecar = path.read_bytes(), path.with_suffix(".csv.gz")
    path.write_bytes(whole[:-2])
    expected = r"part\.npy: 8 bytes found, expected 10 \(uint16\) or 20 \(uint32\) as part\.csv\.gz ends at token 5"
    with pytest.raises(InputError, match=expected):
        open_shards(path)
    with pytest.raises(InputError, match=expected):
        open_shards(path, dtype="uint16")
    path.write_bytes(whole)
    rows = sidecar.read_bytes()
    for content, message in (
        (rows[:-4], "bytes that are no complete .csv.gz"),
        (b"0,5", "bytes that are no complete .csv.gz"),
        (gzip.compress(b"start,end,id\n"), "row 1 is 'start,end,id"),
        (gzip.compress(b""), "expected 0"),
    ):
        sidecar.write_bytes(content)
        with pytest.raises(InputError, match=message):
            open_shards(path)
    sidecar.write_bytes(gzip.compress(b"0,2,a\n3,5,b\n"))
    with pytest.raises(InputError, match="row 2 starts at token 3, expected 2"):
        open_shards(path).document_bounds(0)


def test_of_many_dolma_files_only_the_first_is_compared_with_a_given_dtype(tmp_path):
    for name in ("a.npy", "b.npy"):
        write_dolma(tmp_path / name, [[1, 2, 0], [3, 0]])
    (tmp_path / "b.npy").write_bytes((tmp_path / "b.npy").read_bytes()[:-2])
    with pytest.raises(InputError, match=r"b\.npy: 8 bytes found"):
        open_shards(tmp_path)
    shards = open_shards(tmp_path, dtype="uint16")
    assert shards.num_tokens == 9
    with pytest.raises(InputError, match=r"b\.npy: 8 bytes found"):
        shards.num_documents  # noqa: B018


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", "<i4", "<u4", "<i8"])
def test_genuine_numpy_files(tmp_path, dtype):
    np.save(tmp_path / "a.npy", np.arange(100, dtype=dtype))
    shards = open_shards(tmp_path / "a.npy")
    assert shards.dtype == np.dtype(dtype)
    assert shards.read(0, 100).tolist() == list(range(100))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3), np.uint16),
        np.zeros(3),
        np.zeros(3, ">u2"),
        np.array([{}], object),
        np.uint16(3),
        np.array(["a"]),
    ],
)
def test_other_arrays_are_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match="expected one dimension of little-endian integers"):
        open_shards(tmp_path / "a.npy")


def test_numpy_damage(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(10, dtype="<u2"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="147 bytes found, 148 expected for the 10 uint16 ids"):
        open_shards(path)
    for damaged in (
        whole[:50],
        whole[:6] + b"\x09\x00" + whole[8:],
        whole[:10] + b"x" * 118,
        whole.replace(b"}", b"("),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="damaged NumPy header"):
            open_shards(path)


def test_raw_ids_need_a_dtype_that_fits(tmp_path):
    path = tmp_path / "train.bin"
    np.arange(1, 8, dtype="<u2").tofile(path)
    with pytest.raises(InputError, match=r"14 bytes that begin with no known magic number \(found 01 00 02"):
        open_shards(path)
    assert open_shards(path, dtype="uint16").read(0, 7).tolist() == list(range(1, 8))
    with pytest.raises(InputError, match="14 bytes of ids found, expected a multiple of 4 for uint32"):
        open_shards(path, dtype="uint32")
    with pytest.raises(InputError, match=r"id 7 found, outside a vocabulary of 7, in 14 bytes read as uint16"):
        open_shards(path, dtype="uint16", vocab_size=7)
    for wrong in ("float32", "uint17"):
        with pytest.raises(InputError, match="dtype: "):
            open_shards(path, dtype=wrong)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="0 bytes of ids found"):
        open_shards(path, dtype="uint16")

"""Chunks of litdata: damage and other kinds of chunks are refused, in one line."""

import json
import shutil

import numpy as np
import pytest

from lightning_polycom.data import open_shards
from lightning_polycom.errors import InputError


def write(folder, documents, dtype="<i4", data_format="no_header_tensor:16", **config):
    """A data set of one chunk, as litdata lays it out."""
    folder.mkdir()
    ids = [np.asarray(document, dtype) for document in documents]
    header = 4 * (len(ids) + 2)
    offsets = header + np.cumsum([0, *(document.nbytes for document in ids)])
    content = np.array([len(ids), *offsets], "<u4").tobytes() + b"".join(document.tobytes() for document in ids)
    (folder / "chunk-0-0.bin").write_bytes(content)
    settings = {"compression": None, "data_format": data_format.split(), "item_loader": "TokensLoader", **config}
    chunk = {"filename": "chunk-0-0.bin", "dim": sum(map(len, ids)), "chunk_size": len(ids)}
    (folder / "index.json").write_text(json.dumps({"chunks": [chunk], "config": settings}))
    return folder


@pytest.mark.parametrize(
    ("dtype", "data_format"),
    [("<i8", "no_header_tensor:18"), ("<u2", "no_header_tensor:20"), ("<u2", "no_header_numpy:5")],
)
def test_types_of_torch_and_numpy(tmp_path, dtype, data_format):
    shards = open_shards(write(tmp_path / "set", [[5, 6, 0], [7, 0]], dtype, data_format))
    assert shards.read(0, 5).tolist() == [5, 6, 0, 7, 0]
    assert shards.dtype == np.dtype(dtype) and shards.formats == ["litdata"]
    assert shards.num_documents == 2 and shards.document_bounds(0).tolist() == [0, 3, 5]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"compression": "zstd"}, r"index\.json: chunks with compression \(zstd\)"),
        ({"encryption": {"algorithm": "fernet"}}, r"index\.json: chunks with encryption"),
        ({"item_loader": "PyTreeLoader"}, "expected one tensor of integers for TokensLoader"),
        ({"data_format": "int str"}, r"items are \['int', 'str'\]"),
        ({"data_format": "no_header_tensor:0"}, "expected one tensor of integers"),
    ],
)
def test_other_chunks_are_refused(tmp_path, config, message):
    with pytest.raises(InputError, match=message):
        open_shards(write(tmp_path / "set", [[5, 0]], **config))


def test_a_missing_or_truncated_chunk_and_a_damaged_index(tmp_path, shared):
    folder = shutil.copytree(shared / "token_shards/litdata", tmp_path / "set")
    folder.chmod(0o755)
    chunk = folder / "chunk-0-2.bin"
    content = chunk.read_bytes()
    for damaged in (content[:-4], content[:20], b"", content + bytes(4), bytes([9]) + content[1:]):
        chunk.unlink()
        chunk.write_bytes(damaged)
        with pytest.raises(InputError, match=r"chunk-0-2\.bin: \d+ bytes found"):
            open_shards(folder)
    chunk.unlink()
    with pytest.raises(InputError, match=r"chunk-0-2\.bin: missing"):
        open_shards(folder)
    (folder / "index.json").unlink()
    (folder / "index.json").write_text('{"chunks": [{"filename": "chunk-0-0.bin"}], "config": {}}')
    with pytest.raises(InputError, match=r"index\.json: an index of litdata without"):
        open_shards(folder)

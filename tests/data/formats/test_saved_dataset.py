import json
import pickle
import shutil

import datasets
import numpy as np
import pyarrow as pa
import pytest

from lightning_polycom.data import open_shards
from lightning_polycom.errors import InputError

ROWS = [[5, 6, 7], [], [8], *[[n, n + 1] for n in range(2500)]]
FLAT = np.concatenate([np.array(row, np.int64) for row in ROWS])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A data set of two Arrow files with several record batches each."""
    folder = tmp_path_factory.mktemp("saved") / "set"
    datasets.Dataset.from_dict({"text": ["a"] * len(ROWS), "input_ids": ROWS}).save_to_disk(folder, num_shards=2)
    return folder


def test_ids_and_rows_come_back(saved):
    shards = open_shards(saved)
    assert (shards.num_tokens, shards.num_documents, shards.dtype) == (len(FLAT), len(ROWS), np.dtype("<i4"))
    np.testing.assert_array_equal(shards.read(0, len(FLAT)), FLAT)
    np.testing.assert_array_equal(shards.read_batch(np.array([2400, 1]), 300)[1], FLAT[1:301])
    lengths = np.concatenate([np.diff(shards.document_bounds(file)) for file in range(len(shards.files))])
    assert lengths.tolist() == [len(row) for row in ROWS]
    assert len(shards.files) == 2
    assert len(pickle.dumps(shards)) < 5000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(shards)).read(0, len(FLAT)), FLAT)


@pytest.mark.parametrize(
    "feature",
    [
        datasets.Sequence(datasets.Value("int32"), length=4),
        datasets.Sequence(datasets.Value("uint16")),
        datasets.LargeList(datasets.Value("int64")),
    ],
)
def test_every_kind_of_list(tmp_path, feature):
    rows = [[4 * n, 4 * n + 1, 4 * n + 2, 4 * n + 3] for n in range(1100)]
    features = datasets.Features({"input_ids": feature})
    datasets.Dataset.from_dict({"input_ids": rows}, features=features).save_to_disk(tmp_path / "set")
    shards = open_shards(tmp_path / "set")
    assert shards.read(0, 4400).tolist() == list(range(4400))
    assert shards.document_bounds(0).tolist() == list(range(0, 4401, 4))


def test_chosen_rows_are_saved_in_their_order(tmp_path, saved):
    datasets.load_from_disk(str(saved)).select([5, 0, 2]).save_to_disk(tmp_path / "chosen")
    assert open_shards(tmp_path / "chosen").read(0, 6).tolist() == [*ROWS[5], *ROWS[0], *ROWS[2]]


def test_splits(tmp_path):
    parts = {name: datasets.Dataset.from_dict({"input_ids": [[n, n]]}) for n, name in enumerate(("train", "valid"))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "dict")
    assert open_shards(tmp_path / "dict").read(0, 2).tolist() == [0, 0]
    assert open_shards(tmp_path / "dict", "validation").read(0, 2).tolist() == [1, 1]
    with pytest.raises(InputError, match="no split 'test'; it has train, valid"):
        open_shards(tmp_path / "dict", "test")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a"]}, "no column 'input_ids', only text"),
        ({"input_ids": ["a"]}, "expected lists of integers"),
        ({"input_ids": [[0.5]]}, "expected lists of integers"),
        ({"input_ids": [[1], None]}, "missing values"),
        ({"input_ids": [[1, None]]}, "missing values"),
        ({"input_ids": [[], []]}, "expected lists of integers|holds no ids"),
    ],
)
def test_other_columns_are_refused(tmp_path, columns, message):
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "set")
    with pytest.raises(InputError, match=message):
        open_shards(tmp_path / "set")


def test_damage(tmp_path, saved):
    copy = shutil.copytree(saved, tmp_path / "copy")
    arrow = sorted(copy.glob("*.arrow"))[1]
    whole = arrow.read_bytes()
    for kept in (len(whole) - 8, len(whole) // 2, 0):
        arrow.write_bytes(whole[:kept])
        with pytest.raises(InputError, match=f"{arrow.name}: {kept} bytes"):
            open_shards(copy)
    arrow.write_bytes(whole[: len(whole) // 2] + whole[-8:])
    with pytest.raises(InputError, match=f"{arrow.name}: .* bytes that are no complete Arrow stream"):
        open_shards(copy)
    arrow.unlink()
    with pytest.raises(InputError, match=f"{arrow.name}: missing"):
        open_shards(copy)
    (copy / "state.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"state\.json is no JSON"):
        open_shards(copy)


def test_compressed_batches_are_refused(tmp_path):
    table = pa.table({"input_ids": [[7] * 5000]})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(tmp_path / "data.arrow", table.schema, options=options) as writer:
        writer.write_table(table)
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}), encoding="utf-8")
    with pytest.raises(InputError, match="without compression"):
        open_shards(tmp_path)

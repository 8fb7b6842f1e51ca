import datasets
import pytest

from lightning_polycom.data.sources import Columns, plan_units, read_documents, source_fingerprint
from lightning_polycom.errors import InputError

ROWS = [{"id": f"row{n}", "text": f"text {n}", "n": n} for n in range(30)]


def documents(source, spool, columns=Columns()):  # noqa: B008
    units = plan_units(source, columns, spool)
    return [document for unit in units for _, document in read_documents(unit, columns)]


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "my saved"
    datasets.Dataset.from_list(ROWS).save_to_disk(path)
    return path


def test_a_folder_of_save_to_disk(saved, tmp_path):
    found = documents(f"huggingface:{saved}", tmp_path / "spool")
    assert [d.text for d in found] == [row["text"] for row in ROWS]
    assert {d.domain for d in found} == {"my-saved"}
    assert len({d.id for d in found}) == 30
    by_id = documents(f"mine=huggingface:{saved}", tmp_path / "spool", Columns("text", "id"))
    assert [d.id for d in by_id] == [row["id"] for row in ROWS] and by_id[0].domain == "mine"


def test_a_data_set_is_fetched_once_and_read_from_any_position(saved, tmp_path, monkeypatch):
    first = documents(f"huggingface:{saved}", tmp_path / "spool")
    units = plan_units(f"huggingface:{saved}", Columns(), tmp_path / "spool")
    monkeypatch.setattr("lightning_polycom.data.sources.units.read_dataset", None)
    entries = [list(read_documents(unit, Columns())) for unit in units]
    assert [d for unit in entries for _, d in unit] == first
    for unit, everything in zip(units, entries, strict=True):
        for number, (position, _) in enumerate(everything):
            assert list(read_documents(unit, Columns(), position)) == everything[number:]


def test_splits_of_a_saved_dictionary(tmp_path):
    parts = {"train": datasets.Dataset.from_list(ROWS[:20]), "test": datasets.Dataset.from_list(ROWS[20:])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert len(documents(f"huggingface:{tmp_path / 'saved'}", tmp_path / "a")) == 20
    assert documents(f"huggingface:{tmp_path / 'saved'}::test", tmp_path / "b")[0].text == "text 20"
    with pytest.raises(InputError, match=r"huggingface:.*nowhere"):
        documents(f"huggingface:{tmp_path / 'saved'}::nowhere", tmp_path / "c")


def test_a_folder_of_data_files(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for part in range(3):
        datasets.Dataset.from_list(ROWS[10 * part : 10 * part + 10]).to_parquet(folder / f"train-{part}.parquet")
    units = plan_units(f"huggingface:{folder}", Columns(), tmp_path / "spool")
    assert len(units) == 3  # one for each file, so that processes can share them
    assert [d.text for d in documents(f"huggingface:{folder}", tmp_path / "spool")] == [row["text"] for row in ROWS]


def test_the_fingerprint_follows_the_files_and_asks_no_network(saved, tmp_path):
    first = source_fingerprint([f"huggingface:{saved}"], Columns())
    assert source_fingerprint([f"huggingface:{saved}"], Columns()) == first
    (saved / "more.arrow").write_bytes(b"x")
    assert source_fingerprint([f"huggingface:{saved}"], Columns()) != first
    named = source_fingerprint(["huggingface:someone/something"], Columns())
    assert named != source_fingerprint(["huggingface:someone/something@v2"], Columns())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("huggingface:", "huggingface:name"),
        ("huggingface:a:b:c:d", "huggingface:name"),
        ("huggingface:someone/something-out-of-reach", "someone/something-out-of-reach: cannot be read"),
    ],
)
def test_what_cannot_be_had(source, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        documents(source, tmp_path)
    assert "\n" not in str(caught.value)


def test_columns_are_checked(saved, tmp_path):
    with pytest.raises(InputError, match="no column 'body', only id, text, n"):
        documents(f"huggingface:{saved}", tmp_path, Columns("body"))
    with pytest.raises(InputError, match="'n' is int, not a text"):
        documents(f"huggingface:{saved}", tmp_path, Columns("n"))
    assert not any(tmp_path.glob("*.parquet"))

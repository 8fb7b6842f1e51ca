import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from lightning_polycom.data.sources import (
    Columns,
    Position,
    check_output_apart,
    plan_units,
    read_documents,
    source_fingerprint,
)
from lightning_polycom.errors import InputError

ROWS = [{"id": "x", "text": "first"}, {"id": "y", "text": "zweitens: größer"}, {"id": "z", "text": "  "}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def documents(*sources, text_column="text", id_column=None):
    columns = Columns(text_column, id_column)
    units = [unit for source in sources for unit in plan_units(str(source), columns, Path())]
    return [document for unit in units for _, document in read_documents(unit, columns)]


def expect_error(*words, source, **columns):
    with pytest.raises(InputError) as caught:
        documents(source, **columns)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def write_all_forms(folder):
    (folder / "a.jsonl").write_text(LINES)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(LINES.encode()))
    half = len(LINES) // 2
    frames = [zstandard.compress(part.encode()) for part in (LINES[:half], LINES[half:])]
    (folder / "a.jsonl.zst").write_bytes(b"".join(frames))
    pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), folder / "a.parquet")
    parquet = (folder / "a.parquet").read_bytes()
    (folder / "a.parquet.gz").write_bytes(gzip.compress(parquet))
    (folder / "a.parquet.zst").write_bytes(zstandard.compress(parquet))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.parquet.gz", "a.parquet.zst"])
def test_rows_in_every_form(tmp_path, name):
    write_all_forms(tmp_path)
    found = documents(tmp_path / name)
    assert found == [("a", f"{name}:1", "first"), ("a", f"{name}:2", "zweitens: größer")]
    assert [d.id for d in documents(f"mine={tmp_path / name}", id_column="id")] == ["x", "y"]


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".txt.zst"])
def test_a_text_file_is_one_document_unchanged(tmp_path, suffix):
    data = "line one\r\nline two\n\n  größer ".encode()
    pack = {".txt": bytes, ".txt.gz": gzip.compress, ".txt.zst": zstandard.compress}[suffix]
    (tmp_path / f"book{suffix}").write_bytes(pack(data))
    assert documents(tmp_path / f"book{suffix}") == [("book", f"book{suffix}", data.decode())]


def test_folder_glob_order_and_domains(tmp_path):
    for name in ("b/2.txt", "b/1.txt", "a.txt", "c.md", ".hidden/d.txt"):
        path = tmp_path / "my texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    folder = tmp_path / "my texts"
    assert [(d.domain, d.id) for d in documents(folder)] == [
        ("my-texts", "a.txt"),
        ("my-texts", "b/1.txt"),
        ("my-texts", "b/2.txt"),
    ]
    assert [d.id for d in documents(f"p={folder}/**/[0-9].txt")] == ["b/1.txt", "b/2.txt"]
    both = documents(f"p={folder}/b", f"q={folder}/a.txt")
    assert [(d.domain, d.text) for d in both] == [("p", "b/1.txt"), ("p", "b/2.txt"), ("q", "a.txt")]


def test_a_file_named_like_two_formats_is_read_by_its_last(tmp_path):
    (tmp_path / "notes.txt.jsonl").write_text(LINES)
    assert [d.text for d in documents(tmp_path / "notes.txt.jsonl")] == ["first", "zweitens: größer"]


def test_real_forms_agree(shared):
    forms = [shared / "corpora" / "formats" / f"web_val{s}" for s in (".jsonl", ".jsonl.zst", ".parquet")]
    plain, *others = ([(d.domain, d.id, d.text) for d in documents(path, id_column="id")] for path in forms)
    assert len(plain) > 10
    assert all(other == plain for other in others)


def test_what_is_not_there(tmp_path):
    expect_error("nothing.txt", "not found", source=tmp_path / "nothing.txt")
    (tmp_path / "x.md").write_text("x")
    expect_error(".jsonl", source=tmp_path)
    expect_error(".jsonl", source=tmp_path / "x.md")
    expect_error(".jsonl", source=f"{tmp_path}/*.txt")
    with pytest.raises(InputError, match="empty"):
        source_fingerprint([], Columns())


def test_bad_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(LINES + "{broken\n")
    expect_error("a.jsonl", "line 4", source=path)
    path.write_text(LINES + "[1]\n")
    expect_error("line 4", "object", source=path)
    path.write_text('{"text": null}\n')
    expect_error("line 1", "NoneType", source=path)
    path.write_text('{"text": "\\ud800"}\n')
    expect_error("line 1", "surrogate", source=path)
    path.write_text(LINES)
    expect_error("'body'", "id, text", source=path, text_column="body")
    expect_error("'key'", "id, text", source=path, id_column="key")


def test_invalid_utf8_names_the_byte(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"0123456\xff")
    expect_error("a.txt", "byte 7", source=tmp_path / "a.txt")
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "ok"}\n{"text": "\xff"}\n')
    expect_error("a.jsonl", "byte 25", source=tmp_path / "a.jsonl")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.parquet.gz"])
def test_damaged_files(tmp_path, name):
    write_all_forms(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for damaged in (whole[:-5], b"no such format" + whole):
        (tmp_path / name).write_bytes(damaged)
        expect_error(name, source=tmp_path / name)


def test_parquet_columns(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table({"n": [1], "text": pa.array([None], pa.string())}), path)
    expect_error("row 1", "NoneType", source=path)
    expect_error("row 1", "int", source=path, text_column="n")
    expect_error("'body'", "n, text", source=path, text_column="body")


def test_fingerprint_follows_the_files(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    os.utime(path, ns=(1, 1))
    first = source_fingerprint([str(path)], Columns())
    assert source_fingerprint([str(path)], Columns()) == first != source_fingerprint([f"b={path}"], Columns())
    os.utime(path, ns=(1, 2))
    assert source_fingerprint([str(path)], Columns()) != first
    os.utime(path, ns=(1, 1))
    assert source_fingerprint([str(path)], Columns()) == first
    (tmp_path / "b.txt").write_text("two")
    assert source_fingerprint([str(tmp_path)], Columns()) != source_fingerprint([str(path)], Columns())


def test_output_inside_a_source_is_refused(tmp_path):
    check_output_apart(["python_stdlib", str(tmp_path / "texts")], tmp_path / "out")
    for source in (
        str(tmp_path),
        f"a={tmp_path}",
        f"huggingface:{tmp_path}",
        f"{tmp_path}/**/*.jsonl",
        f"{tmp_path}/*/*.txt",
    ):
        with pytest.raises(InputError, match="looked for"):
            check_output_apart([source], tmp_path / "out")
    check_output_apart([f"{tmp_path}/*.txt"], tmp_path / "out")
    check_output_apart([f"{tmp_path}/*/*.txt"], tmp_path / "a" / "out")


def test_links_to_folders_are_followed_and_circles_end(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.txt").write_text("far")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "texts" / "circle").symlink_to(tmp_path / "texts")
    assert [d.id for d in documents(tmp_path / "texts")] == ["link/a.txt"]


def test_empty_ids_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "x", "text": "t"}\n{"id": null, "text": "t"}\n')
    expect_error("a.jsonl", "line 2", "'id' is empty", source=tmp_path / "a.jsonl", id_column="id")


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_reading_can_begin_at_any_document(tmp_path, suffix):
    rows = [{"text": " " if n % 7 == 3 else f"größer {n}"} for n in range(50)]
    for part in range(3):
        lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
        pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(suffix[-3:] if "gz" in suffix else suffix[-4:])
        path = tmp_path / f"{part}{suffix}"
        if suffix == ".parquet":
            pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=9)
        else:
            path.write_bytes(pack(lines) if pack else lines)
    (unit,) = plan_units(str(tmp_path), Columns(), Path())
    everything = list(read_documents(unit, Columns()))
    assert len(everything) == 3 * 43
    for number, (position, _) in enumerate(everything):
        assert list(read_documents(unit, Columns(), position)) == everything[number:]


def test_text_files_can_begin_at_any_document(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text(name)
    (unit,) = plan_units(str(tmp_path), Columns(), Path())
    found = [d.id for _, d in read_documents(unit, Columns(), Position(2))]
    assert found == ["c.txt", "d.txt"]


def test_large_files_are_units_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_polycom.data.sources.units._GROUP_BYTES", 10)
    for name, size in (("a", 4), ("b", 4), ("c", 30), ("d", 4), ("e", 7)):
        (tmp_path / f"{name}.txt").write_text("x" * size)
    units = plan_units(str(tmp_path), Columns(), Path())
    assert [[file.name for file in unit.files] for unit in units] == [
        ["a.txt", "b.txt"],
        ["c.txt"],
        ["d.txt"],
        ["e.txt"],
    ]
    assert len({unit.key for unit in units}) == 4


def test_binary_text_files_are_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes("utf-16".encode("utf-16-le"))
    expect_error("a.txt", "NUL at character 1", source=tmp_path / "a.txt")
    (tmp_path / "a.txt").write_bytes(bytes(range(256)))
    expect_error("a.txt", "byte 128", source=tmp_path / "a.txt")

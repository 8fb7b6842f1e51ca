"""Preparations that are killed, or run out of disk, and go on where they were."""

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from small_corpora import library_documents, write_rows

from lightning_polycom.data import PrepareConfig, prepare
from lightning_polycom.data.preparation import survey
from lightning_polycom.data.shards import verify_checksums
from lightning_polycom.errors import InputError

# Segments are small and encoding takes its time, so that a kill comes in the middle; each batch prints a line.
SLOW = """
import json, sys, time
from lightning_polycom.data import PrepareConfig, Tokenizer, prepare
from lightning_polycom.data.preparation import survey
survey.SEGMENT_BYTES = 20_000
encode_batch = Tokenizer.encode_batch
def slowly(self, texts):
    print("encoding", flush=True)
    time.sleep(0.02)
    return encode_batch(self, texts)
Tokenizer.encode_batch = slowly
prepare(PrepareConfig(**json.loads(sys.argv[2])), sys.argv[1])
"""


@pytest.fixture
def settings(tmp_path):
    write_rows(tmp_path / "a.jsonl", library_documents("a", 150))
    write_rows(tmp_path / "b.jsonl", library_documents("b", 90)[:40])
    sources = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    return {"sources": sources, "vocab_size": 300, "id_column": "id", "shard_tokens": 50_000, "drop_duplicates": True}


def start(settings, output):
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, str(output), json.dumps(settings)], stdout=subprocess.PIPE, text=True
    )


def segments_of(output):
    return sorted(output.parent.glob(f".{output.name}.building/segments/*.npz"))


def test_killed_again_and_again_the_bytes_are_the_same_and_no_finished_work_is_done_twice(
    settings, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(survey, "SEGMENT_BYTES", 20_000)
    whole = prepare(PrepareConfig(**settings), tmp_path / "whole")
    rng, output, written = random.Random(3), tmp_path / "out", {}
    for _ in range(4):
        with start(settings, output) as process:
            for _ in range(rng.randint(3, 6)):
                assert process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        assert not output.exists()
        now = {path: path.stat().st_mtime_ns for path in segments_of(output)}
        assert written.items() <= now.items()
        assert len(now) > len(written)
        written = now
    capsys.readouterr()
    assert prepare(PrepareConfig(**settings), output) == whole
    there, total = map(int, re.search(r"(\d+) of (\d+) segments are there", capsys.readouterr().out).groups())
    assert there == len(written) and total > there
    verify_checksums(output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl", "out", "whole"]


def test_finished_work_survives_a_mended_source(settings, tmp_path, monkeypatch, capsys):
    """Only the file that was wrong is read again."""
    monkeypatch.setattr(survey, "SEGMENT_BYTES", 20_000)
    good = (tmp_path / "b.jsonl").read_text()
    (tmp_path / "b.jsonl").write_text(good + "{broken\n")
    with pytest.raises(InputError, match=r"b\.jsonl: line 41"):
        prepare(PrepareConfig(**settings), tmp_path / "out")
    surveyed = {path: path.stat().st_mtime_ns for path in tmp_path.glob(".out.building/survey/*")}
    assert len(surveyed) == 2  # the records and the summary of a.jsonl
    (tmp_path / "b.jsonl").write_text(good)
    read = []
    monkeypatch.setattr(
        "lightning_polycom.data.preparation.build.survey_unit", lambda t: read.append(t) or survey.survey_unit(t)
    )
    prepare(PrepareConfig(**settings), tmp_path / "out")
    assert [task.unit.domain for task in read] == ["b"]


def test_other_settings_do_not_use_what_does_not_fit(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "SEGMENT_BYTES", 20_000)
    with start(settings, tmp_path / "out") as process:
        for _ in range(6):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert segments_of(tmp_path / "out")
    changed = {**settings, "validation_fraction": 0.3, "vocab_size": 400, "drop_duplicates": False}
    assert prepare(PrepareConfig(**changed), tmp_path / "out") == prepare(PrepareConfig(**changed), tmp_path / "fresh")


def test_a_full_disk_is_one_line_and_finished_work_is_kept(settings, tmp_path):
    """A limit on the size of files stands for the disk: writing fails in the middle with the system's error."""
    code = SLOW.replace("time.sleep(0.02)", "")
    config = {**settings, "shard_tokens": 10**9}
    process = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out"), json.dumps(config)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)),
    )
    error = process.stderr.strip().splitlines()[-1]
    assert "InputError: output:" in error and "cannot be written" in error and "free space" in error
    assert not (tmp_path / "out").exists()
    kept = {path: path.stat().st_mtime_ns for path in segments_of(tmp_path / "out")}
    assert kept
    with start(config, tmp_path / "out") as process:
        assert "segments are there" in process.stdout.read()
    verify_checksums(tmp_path / "out")


def test_a_source_that_changes_meanwhile_is_an_error(settings, tmp_path, monkeypatch):
    def encode_and_change(task):
        path = task.unit.files[0].path
        path.write_text(path.read_text().replace("a", "b", 1))

    monkeypatch.setattr("lightning_polycom.data.preparation.build.encode_segments", encode_and_change)
    with pytest.raises(InputError, match="changed while they were read"):
        prepare(PrepareConfig(**settings), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_segment_is_named_and_made_again_once_deleted(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "SEGMENT_BYTES", 20_000)
    with start(settings, tmp_path / "out") as process:
        for _ in range(6):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    path = segments_of(tmp_path / "out")[0]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=f"{path.name}: damaged"):
        prepare(PrepareConfig(**settings), tmp_path / "out")
    path.unlink()
    prepare(PrepareConfig(**settings), tmp_path / "out")
    verify_checksums(tmp_path / "out")


@pytest.mark.long
def test_processes_make_the_same_bytes_also_when_killed(tmp_path):
    config = PrepareConfig(vocab_size=1024, num_workers=1)
    alone = prepare(config, tmp_path / "alone")
    output = tmp_path / "out"
    code = (
        f"from lightning_polycom.data import *; prepare(PrepareConfig(vocab_size=1024, num_workers=2), {str(output)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    while not segments_of(output):
        time.sleep(0.02)
        assert process.poll() is None
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout
    process.kill()
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in segments_of(output)}
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in children.split()):  # noqa: PTH110
        assert time.monotonic() < deadline, "processes outlive the one that started them"
        time.sleep(0.1)
    assert prepare(replace(config, num_workers=2), output).fingerprint == alone.fingerprint
    assert done and all(not path.exists() for path in done)
    verify_checksums(output)

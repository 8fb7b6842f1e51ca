import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from small_corpora import library_documents, write_rows

from lightning_polycom.data import Manifest, PrepareConfig, Tokenizer, open_shards, prepare
from lightning_polycom.data.shards import verify_checksums
from lightning_polycom.errors import InputError


def texts_of(folder, split, domain):
    """The documents' texts, decoded from the shards."""
    tokenizer, shards = Tokenizer.load(folder / "tokenizer.json"), open_shards(folder, split, domain)
    ids = shards.read(0, shards.num_tokens)
    ends = np.flatnonzero(ids == shards.eos_token_id)
    assert ends[-1] == len(ids) - 1
    return [tokenizer.decode(part[:-1].tolist()) for part in np.split(ids, ends[:-1] + 1)]


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_document_arrives_whole_on_one_side(small_prepared, corpus):
    folder, manifest = small_prepared
    verify_checksums(folder)
    for domain, file in (("code", "code.jsonl"), ("prose", "notes.jsonl")):
        source = [json.loads(line)["text"] for line in (corpus / file).read_text().splitlines()]
        train, validation = texts_of(folder, "train", domain), texts_of(folder, "validation", domain)
        assert sorted(train + validation) == sorted(source)
        assert validation and len(validation) < 0.3 * len(source)
        counted = [shard for shard in manifest.shards if shard.domain == domain]
        assert sum(shard.num_documents for shard in counted) == len(source)
        assert sum(shard.num_bytes for shard in counted) == sum(len(text.encode()) for text in source)


def test_manifest_says_what_was_done(small_prepared, small_config):
    folder, manifest = small_prepared
    assert Manifest.load(folder) == manifest
    assert manifest.dtype == "uint16"
    assert (manifest.tokenizer.vocab_size, manifest.tokenizer.eos_token_id) == (512, 0)
    assert manifest.recipe["sources"] == small_config.sources
    assert "followed by one end-of-text" in manifest.document_rule
    assert len([s for s in manifest.shards if (s.split, s.domain) == ("train", "code")]) > 2
    assert all(shard.num_tokens <= 20_000 for shard in manifest.shards)


def test_questions_are_about_held_out_text(small_prepared):
    folder, _ = small_prepared
    rows = [json.loads(line) for line in (folder / "tasks" / "heldout_continuation.jsonl").read_text().splitlines()]
    assert {row["domain"] for row in rows} == {"code", "prose"}
    for row in rows:
        real = row["context"] + row["choices"][row["answer"]]
        assert any(real in text for text in texts_of(folder, "validation", row["domain"]))
    assert (folder / "tasks" / "heldout_perplexity_prose.jsonl").is_file()


def test_a_second_run_does_nothing_and_another_recipe_replaces(small_config, tmp_path, capsys):
    first = prepare(small_config, tmp_path / "out")
    marker = (tmp_path / "out" / "manifest.json").stat().st_mtime_ns
    capsys.readouterr()
    assert prepare(small_config, str(tmp_path / "out")) == first
    assert (tmp_path / "out" / "manifest.json").stat().st_mtime_ns == marker
    assert capsys.readouterr().out.count("\n") == 1
    changed = prepare(replace(small_config, vocab_size=300), tmp_path / "out")
    assert changed.tokenizer.vocab_size == 300
    assert changed.fingerprint != first.fingerprint
    assert "other settings" in capsys.readouterr().out
    assert names_in(tmp_path) == ["out"]


def test_the_same_recipe_gives_the_same_bytes(small_prepared, small_config, tmp_path):
    assert prepare(small_config, tmp_path / "again") == small_prepared[1]


@pytest.mark.parametrize("damage", ["train/code-00000.bin", "tokenizer.json", "tasks"])
def test_a_damaged_folder_is_made_again(small_prepared, small_config, tmp_path, damage):
    prepare(small_config, tmp_path / "out")
    path = tmp_path / "out" / damage
    path.rename(tmp_path / "moved") if path.is_dir() else path.write_bytes(b"x")
    assert prepare(small_config, tmp_path / "out") == small_prepared[1]
    verify_checksums(tmp_path / "out")


def test_changed_sources_are_noticed(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", library_documents("a", 30))
    config = PrepareConfig(sources=[str(path)], vocab_size=300)
    first = prepare(config, tmp_path / "out")
    write_rows(path, library_documents("a", 31))
    assert prepare(config, tmp_path / "out").fingerprint != first.fingerprint


def test_foreign_folders_are_left_alone(small_config, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="not made by"):
        prepare(small_config, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="malformed"):
        prepare(small_config, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"
    with pytest.raises(InputError, match="not made by"):
        prepare(small_config, tmp_path / "out" / "thesis.tex")


def test_an_error_half_way_leaves_nothing(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", library_documents("a", 30))
    path.write_text(path.read_text() + "{broken\n")
    with pytest.raises(InputError, match="line 31"):
        prepare(PrepareConfig(sources=[str(path)]), tmp_path / "out")
    assert names_in(tmp_path) == ["a.jsonl"]


def test_killed_half_way_leaves_no_output_and_the_next_run_cleans_up(small_config, tmp_path):
    code = (
        "import sys, time; from lightning_polycom.data import *; import lightning_polycom.data.tokenizer as t\n"
        "def stop(self, texts): print('encoding', flush=True); time.sleep(60)\n"
        "t.Tokenizer.encode_batch = stop\n"
        "prepare(PrepareConfig(sources=sys.argv[2:], vocab_size=512, id_column='id'), sys.argv[1])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out"), *small_config.sources]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "encoding\n"
        process.send_signal(signal.SIGKILL)
    assert names_in(tmp_path) == [".out.building", ".out.lock"]
    prepare(small_config, tmp_path / "out")
    assert names_in(tmp_path) == ["out"]


def prepare_and_report(config, output, queue):
    queue.put((prepare(config, output).fingerprint, output.stat().st_ino))


def test_three_processes_make_one_folder(small_config, small_prepared, tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [
        context.Process(target=prepare_and_report, args=(small_config, tmp_path / "out", queue)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    results = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert len(set(results)) == 1
    assert results[0][0] == small_prepared[1].fingerprint
    assert names_in(tmp_path) == ["out"]


def test_copies_of_held_out_text_are_dropped_and_counted(small_prepared, small_config, tmp_path, capsys):
    held_out = texts_of(small_prepared[0], "validation", "code")
    rows = [{"id": f"copy{n}", "text": text} for n, text in enumerate(held_out)]
    rows += [{"id": f"own{n}", "text": f"text {n} of its own"} for n in range(20)]
    copies = write_rows(tmp_path / "copies.jsonl", rows)
    prepare(replace(small_config, sources=[*small_config.sources, str(copies)]), tmp_path / "out")
    trained = set(texts_of(tmp_path / "out", "train", "copies"))
    assert len(trained) > 10 and not trained & set(held_out)
    dropped = int(re.search(r"copies: left out (\d+) documents", capsys.readouterr().out)[1])
    assert 0 < dropped <= len(held_out)  # a copy may be held out itself


def test_one_document_is_trained_on_and_said_to_have_no_validation(tmp_path, capsys):
    text = "".join(row["text"] for row in library_documents("", 40)[:4])
    (tmp_path / "book.txt").write_text(text)
    manifest = prepare(PrepareConfig(sources=[str(tmp_path / "book.txt")], vocab_size=300), tmp_path / "out")
    assert manifest.domains("train") == ["book"] and manifest.domains("validation") == []
    assert texts_of(tmp_path / "out", "train", "book") == [text]
    assert "book: one document only" in capsys.readouterr().out


def test_real_text_with_a_published_tokenizer(shared, tmp_path):
    tokenizer = shared / "tokenizers" / "allenai_dolma2.json"
    source = shared / "corpora" / "formats" / "web_val.jsonl.zst"
    config = PrepareConfig(sources=[f"web={source}"], tokenizer=str(tokenizer), id_column="id")
    manifest = prepare(config, tmp_path / "out")
    assert manifest.dtype == "uint32"
    assert manifest.tokenizer.vocab_size == 100_278
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == tokenizer.read_bytes()
    plain = [json.loads(line)["text"] for line in source.with_suffix("").read_text().splitlines()]
    assert sorted(t for s in ("train", "validation") for t in texts_of(tmp_path / "out", s, "web")) == sorted(plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"validation_fraction": -0.1}, "validation_fraction"),
        ({"shard_tokens": 0}, "shard_tokens"),
        ({"questions_per_domain": -1}, "questions_per_domain"),
        ({"num_workers": 0}, "num_workers"),
        ({"vocab_size": 100}, "vocab_size"),
        ({"vocab_size": 10**6}, "vocab_size"),
        ({"vocab_size": 10**12}, "vocab_size"),
        ({"eos_token": "</s>"}, "eos_token"),
        ({"tokenizer": "nowhere.json"}, "nowhere.json"),
        ({"sources": []}, "sources"),
    ],
)
def test_bad_settings(small_config, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        prepare(replace(small_config, **change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_to_another_disk_stays_a_link(small_config, tmp_path):
    (tmp_path / "big").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "big")
    prepare(small_config, tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "big" / "manifest.json").is_file()


def test_importing_the_room_is_light():
    code = "import sys, lightning_polycom.data; print({'torch', 'tokenizers', 'pyarrow', 'rich'} & set(sys.modules))"
    started = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert result.stdout.strip() == "set()"
    assert time.perf_counter() - started < 5


def test_duplicates_are_counted_and_left_out_on_request(small_config, tmp_path, capsys):
    rows = library_documents("x", 30)
    copies = write_rows(tmp_path / "more.jsonl", [{**row, "id": f"again{n}"} for n, row in enumerate(rows)] + rows)
    config = replace(small_config, sources=[str(copies)], validation_fraction=0.0)
    kept = prepare(config, tmp_path / "kept")
    assert kept.documents["more"].num_duplicates == 30
    assert len(texts_of(tmp_path / "kept", "train", "more")) == 60
    dropped = prepare(replace(config, drop_duplicates=True), tmp_path / "dropped")
    assert dropped.documents["more"].num_dropped_duplicates == 30
    assert texts_of(tmp_path / "dropped", "train", "more") == [row["text"] for row in rows]
    assert "30 documents repeat an earlier one's text, 30 of them left out" in capsys.readouterr().out
    assert Manifest.load(tmp_path / "dropped") == dropped


def test_documents_with_repetitions_are_left_out_on_request(small_config, tmp_path, capsys):
    rows = library_documents("x", 30)
    again = [
        {"id": "again", "text": rows[0]["text"] + "ab, " * 400},
        {"id": "few", "text": "ab, " * 8 + rows[1]["text"]},
    ]
    source = write_rows(tmp_path / "text.jsonl", rows + again)
    config = replace(small_config, sources=[str(source)], validation_fraction=0.0)
    whole = texts_of(tmp_path / "kept", "train", "text") if prepare(config, tmp_path / "kept") else []
    manifest = prepare(replace(config, drop_repetitions=True), tmp_path / "dropped")
    left_out = set(whole) - set(texts_of(tmp_path / "dropped", "train", "text"))
    assert again[0]["text"] in left_out and again[1]["text"] not in left_out
    assert manifest.documents["text"].num_dropped_repetitions == len(left_out)
    assert f"left out {len(left_out)} documents with repetitions" in capsys.readouterr().out


def test_a_source_without_text_is_named(small_config, tmp_path):
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "empty.jsonl").write_text("")
    for name in ("blank.txt", "empty.jsonl"):
        sources = [*small_config.sources, str(tmp_path / name)]
        with pytest.raises(InputError, match=f"{name} has no text"):
            prepare(replace(small_config, sources=sources), tmp_path / "out")


def test_a_data_set_of_hugging_face(tmp_path):
    import datasets

    rows = library_documents("x", 40)
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    write_rows(tmp_path / "same.jsonl", rows)
    for name, source in (("a", f"x=huggingface:{tmp_path / 'saved'}"), ("b", f"x={tmp_path / 'same.jsonl'}")):
        prepare(PrepareConfig(sources=[source], id_column="id", vocab_size=300), tmp_path / name)
    assert Manifest.load(tmp_path / "a").fingerprint == Manifest.load(tmp_path / "b").fingerprint
    assert names_in(tmp_path) == ["a", "b", "same.jsonl", "saved"]


def test_a_beginning_of_text_stands_before_every_document_on_request(shared, small_config, tmp_path):
    tokenizer = shared / "tokenizers" / "bpe-1024.json"
    bos = Tokenizer.load(tokenizer).decode([1])
    config = replace(small_config, tokenizer=str(tokenizer), bos_token=bos)
    manifest = prepare(config, tmp_path / "out")
    assert (manifest.tokenizer.bos_token, manifest.tokenizer.bos_token_id) == (bos, 1)
    assert f"one {bos} comes before it" in manifest.document_rule
    plain = prepare(replace(config, bos_token=None), tmp_path / "plain")
    for shard, other in zip(manifest.shards, plain.shards, strict=False):
        if shard.num_documents == other.num_documents:
            assert shard.num_tokens == other.num_tokens + other.num_documents
    for split in ("train", "validation"):
        for text, framed in zip(
            texts_of(tmp_path / "plain", split, "code"), texts_of(tmp_path / "out", split, "code"), strict=True
        ):
            assert framed == bos + text
    with pytest.raises(InputError, match="bos_token"):
        prepare(replace(config, bos_token="nowhere"), tmp_path / "other")
    with pytest.raises(InputError, match="bos_token"):
        prepare(replace(small_config, bos_token=bos), tmp_path / "other")


def test_one_source_needs_no_list_and_the_speed_is_said(small_config, corpus, tmp_path, capsys):
    config = replace(small_config, sources=str(corpus / "code.jsonl"))
    assert config.sources == [str(corpus / "code.jsonl")]
    manifest = prepare(config, tmp_path / "out")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("encoded")]
    tokens = sum(shard.num_tokens for shard in manifest.shards)
    assert re.search(r"60/60 documents|60 documents", line) and f"{tokens:,} tokens" in line
    assert re.search(r"MB/s\), .* tokens/s\)", line)

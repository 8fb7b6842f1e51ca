"""Small real corpora and a folder prepared from them."""

from pathlib import Path

import pytest
from small_corpora import library_documents, write_rows

from lightning_polycom.data import Manifest, PrepareConfig, prepare


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """A folder with two sources of JSON lines: code.jsonl (60 documents) and notes.jsonl (5 documents)."""
    folder = tmp_path_factory.mktemp("corpus")
    write_rows(folder / "code.jsonl", library_documents("code", 60))
    write_rows(folder / "notes.jsonl", library_documents("notes", 20)[:5])
    return folder


@pytest.fixture(scope="session")
def small_config(corpus) -> PrepareConfig:
    """Settings that prepare `corpus` in a second, with several shards in a domain."""
    sources = [str(corpus / "code.jsonl"), f"prose={corpus / 'notes.jsonl'}"]
    return PrepareConfig(sources=sources, vocab_size=512, id_column="id", shard_tokens=20_000, validation_fraction=0.1)


@pytest.fixture(scope="session")
def small_prepared(small_config, tmp_path_factory) -> tuple[Path, Manifest]:
    """A prepared folder, not to be changed, and its manifest."""
    folder = tmp_path_factory.mktemp("prepared") / "small"
    return folder, prepare(small_config, folder)

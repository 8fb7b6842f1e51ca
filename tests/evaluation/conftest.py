import json
from pathlib import Path

import pytest
from tiny_language_model import ByteTokenizer, TinyDecoder

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tokenizer() -> ByteTokenizer:
    return ByteTokenizer()


@pytest.fixture
def decoder() -> TinyDecoder:
    """In training mode, as in the middle of a run, with a window of 48 bytes."""
    return TinyDecoder(vocab_size=257, max_sequence_length=48).train()


@pytest.fixture
def task_folder() -> Path:
    """The tasks that the repository ships."""
    return ROOT / "data" / "tasks"


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """A prepared data folder as far as tasks are concerned: rows made of this package's own sources."""
    folder = tmp_path / "prepared"
    (folder / "tasks").mkdir(parents=True)
    texts = [path.read_text() for path in sorted((ROOT / "lightning_polycom").glob("*.py")) if path.stat().st_size]
    questions = []
    for i, text in enumerate(texts * 3):
        pieces = [f" {text[j : j + 9]}" for j in range(i, i + 40, 10)]
        questions.append(
            {"domain": "library", "id": str(i), "context": text[60 : 70 + i], "choices": pieces, "answer": i % 4}
        )
    write_rows(folder / "tasks" / "heldout_continuation.jsonl", questions)
    for domain in ("library", "tests", "reference"):
        rows = [{"id": f"{domain}-{i}", "text": text[: 150 + 31 * i]} for i, text in enumerate(texts)]
        write_rows(folder / "tasks" / f"heldout_perplexity_{domain}.jsonl", rows)
    return folder


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

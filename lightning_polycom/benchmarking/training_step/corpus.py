"""The text that all contenders train on."""

import json
import sysconfig
from pathlib import Path

from lightning_polycom.data.preparation import PrepareConfig, prepare

PACKAGES = ("asyncio", "email", "json", "unittest", "http", "logging")  # of the standard library
MAX_VOCABULARY = 1024


def prepare_corpus(folder: Path, vocab_size: int) -> Path:
    """Shards of some of the standard library's sources, in `folder`/shards, made in seconds; returns their folder.

    The tokenizer has at most 1,024 entries, also for decoders with more: how long a step takes does not depend on
    which ids come.
    """
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(file for package in PACKAGES for file in (library / package).glob("*.py"))
    rows = [json.dumps({"id": str(file), "text": file.read_text(encoding="utf-8")}) for file in files]
    (folder / "code.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    config = PrepareConfig([f"code={folder / 'code.jsonl'}"], vocab_size=min(vocab_size, MAX_VOCABULARY))
    prepare(config, folder / "shards")
    return folder / "shards"

"""The settings of `polycom prepare`, and what of them decides whether a prepared folder can be used again."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from lightning_polycom.data.manifest import FORMAT
from lightning_polycom.data.preparation.cores import available_cores
from lightning_polycom.data.sources import Columns, source_fingerprint
from lightning_polycom.data.tokenizer import MIN_VOCAB_SIZE, Tokenizer
from lightning_polycom.errors import InputError

MAX_VOCAB_SIZE = 1_000_000  # of a trained tokenizer: the training takes memory for every id at once


@dataclass
class PrepareConfig:
    """How text becomes token shards.

    Args:
        sources: One or a list of them. Each is `python_stdlib` (the embedded corpus), `[domain=]path`: a file, folder
            or glob of .txt, .jsonl or .parquet, also .gz or .zst, or
            `[domain=]huggingface:name[@revision][:config[:split]]`: a data set of the hub or in a local folder.
        tokenizer: A tokenizer.json, a Hugging Face tokenizer folder or name, a SentencePiece model or
            `tiktoken:name`; default one trained on the training text.
        vocab_size: Number of ids of the trained tokenizer; not used with `tokenizer`.
        eos_token: End-of-text token of `tokenizer`; default the one that it names, or the first usual one it has.
        bos_token: Token of `tokenizer` to put before every document; default none.
        text_column: Column of .jsonl, .parquet and data sets that holds the text.
        id_column: Column that holds the document's id; default the file's name and the row's number.
        validation_fraction: Share of the documents held out for validation, by hash; 0 for none.
        drop_duplicates: Leaves out documents whose exact text came before; otherwise they are only counted.
        drop_repetitions: Leaves out training documents in which some 1 to 13 tokens come 32 times in a row (OLMoE).
        shard_tokens: Tokens per file; documents are never cut.
        questions_per_domain: At most this many questions on each domain's held-out text.
        num_workers: Processes that read and encode; default one for each core. The result does not depend on it.
    """

    sources: list[str] | str = field(default_factory=lambda: ["python_stdlib"])
    tokenizer: str | None = None
    vocab_size: int = 4096
    eos_token: str | None = None
    bos_token: str | None = None
    text_column: str = "text"
    id_column: str | None = None
    validation_fraction: float = 0.05
    drop_duplicates: bool = False
    drop_repetitions: bool = False
    shard_tokens: int = 100_000_000
    questions_per_domain: int = 100
    num_workers: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.sources, str):
            self.sources = [self.sources]

    @property
    def columns(self) -> Columns:
        """The columns to read."""
        return Columns(self.text_column, self.id_column)

    @property
    def worker_count(self) -> int:
        """Processes to use."""
        return available_cores() if self.num_workers is None else self.num_workers

    def check(self) -> None:
        """Refuses settings that cannot be.

        Raises:
            InputError: a number out of range, or a token that the tokenizer to train does not have.
        """
        if not 0 <= self.validation_fraction < 1:
            raise InputError(f"validation_fraction: found {self.validation_fraction}; it must be in [0, 1)")
        for name, least in (("shard_tokens", 1), ("questions_per_domain", 0), ("num_workers", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name}: found {value}; it must be at least {least}")
        if self.tokenizer is None and not MIN_VOCAB_SIZE <= self.vocab_size <= MAX_VOCAB_SIZE:
            raise InputError(
                f"vocab_size: found {self.vocab_size}; it must be in [{MIN_VOCAB_SIZE}, {MAX_VOCAB_SIZE}]: at least "
                "256 bytes and end of text"
            )
        for name in ("eos_token", "bos_token"):
            if self.tokenizer is None and getattr(self, name) is not None:
                raise InputError(
                    f"{name}: found {getattr(self, name)!r}, but a trained tokenizer has its own end of text and no "
                    "other token; give `tokenizer`, or leave it"
                )


def make_recipe(config: PrepareConfig, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """The settings and a fingerprint of every input; `tokenizer` is the one given, if one is."""
    recipe = {**asdict(config), "source_fingerprint": source_fingerprint(config.sources, config.columns)}
    if tokenizer is not None:
        recipe["vocab_size"] = None
        recipe["tokenizer_sha256"] = tokenizer.fingerprint
    return recipe


def recipe_fingerprint(recipe: dict[str, Any]) -> str:
    """SHA-256 of what decides the contents, in hex: not where the tokenizer lies, nor how many processes work."""
    decisive = {key: value for key, value in recipe.items() if key not in ("tokenizer", "num_workers")}
    return hashlib.sha256(json.dumps([FORMAT, decisive], sort_keys=True).encode()).hexdigest()

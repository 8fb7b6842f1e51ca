"""Text to a prepared folder: tokenizer, train and validation shards, questions from held-out text, manifest."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lightning_polycom.data.heldout_tasks import HeldOutPool, write_heldout_tasks
from lightning_polycom.data.hold_out import SAMPLE_CHARACTERS, HoldOut, document_hash
from lightning_polycom.data.manifest import FILE_NAME, FORMAT, Manifest, ShardFile, TokenizerRecord, content_fingerprint
from lightning_polycom.data.prepare_progress import track
from lightning_polycom.data.shards import ShardWriter, find_damage, token_dtype
from lightning_polycom.data.sources import Document, check_output_apart, iterate_documents, source_fingerprint
from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.errors import InputError

DOCUMENT_RULE = "Every document is followed by one end-of-text token; nothing comes before it."

_TOKENIZER_FILE = "tokenizer.json"
_TOKENIZER_SAMPLE_CHARACTERS = 20_000_000
_BATCH_CHARACTERS = 2_000_000
_BATCH_DOCUMENTS = 1024


@dataclass
class PrepareConfig:
    """How text becomes token shards.

    Args:
        sources: Each `python_stdlib` (the embedded corpus) or `[domain=]path`: a file, folder or glob of .txt, .jsonl
            or .parquet, .txt and .jsonl also .gz or .zst.
        tokenizer: A tokenizer.json of the tokenizers library; default one trained on the training text.
        vocab_size: Number of ids of the trained tokenizer; not used with `tokenizer`.
        eos_token: End-of-text token of `tokenizer`; default the first usual one that it has.
        text_column: Column of .jsonl and .parquet that holds the text.
        id_column: Column that holds the document's id; default the file's name and the row's number.
        validation_fraction: Share of the documents held out for validation, by hash; 0 for none.
        shard_tokens: Tokens per file; documents are never cut.
        questions_per_domain: At most this many questions on each domain's held-out text.
    """

    sources: list[str] = field(default_factory=lambda: ["python_stdlib"])
    tokenizer: str | None = None
    vocab_size: int = 4096
    eos_token: str | None = None
    text_column: str = "text"
    id_column: str | None = None
    validation_fraction: float = 0.05
    shard_tokens: int = 100_000_000
    questions_per_domain: int = 100


def prepare(config: PrepareConfig, output: str | os.PathLike) -> Manifest:
    """Makes the prepared folder `output`, or finds it up to date.

    It is built beside its place and renamed at the end; a folder made by other settings or from other files is
    replaced. Of several processes that ask for the same folder one builds it and the others wait.

    Raises:
        InputError: a setting, source or tokenizer that cannot be used, or a folder of something else at `output`.
    """
    output = Path(output)
    if output.is_symlink() or not output.name:
        output = output.resolve()  # the folder is put in place by renaming, which needs its real name
    _check(config)
    check_output_apart(config.sources, output)
    recipe = _recipe(config)
    fingerprint = _recipe_fingerprint(recipe)
    manifest = _up_to_date(output, fingerprint)
    if manifest is None:
        with _sole_process(output):
            manifest = _up_to_date(output, fingerprint)
            if manifest is None:
                return _rebuild(config, recipe, fingerprint, output)
    tokens = sum(shard.num_tokens for shard in manifest.shards)
    print(f"{output} is up to date: {tokens:,} tokens")
    return manifest


def _check(config: PrepareConfig) -> None:
    if not 0 <= config.validation_fraction < 1:
        raise InputError(f"validation_fraction: found {config.validation_fraction}; it must be in [0, 1)")
    for name, least in (("shard_tokens", 1), ("questions_per_domain", 0)):
        if getattr(config, name) < least:
            raise InputError(f"{name}: found {getattr(config, name)}; it must be at least {least}")


def _recipe(config: PrepareConfig) -> dict[str, Any]:
    """The settings and a fingerprint of every input."""
    recipe = {**asdict(config), "source_fingerprint": source_fingerprint(config.sources)}
    if config.tokenizer is not None:
        recipe["vocab_size"] = None
        recipe["tokenizer_sha256"] = Tokenizer.load(config.tokenizer, config.eos_token).fingerprint
    elif config.eos_token is not None:
        raise InputError(
            f"eos_token: found {config.eos_token!r}, but a trained tokenizer has its own; give `tokenizer`, or leave it"
        )
    return recipe


def _recipe_fingerprint(recipe: dict[str, Any]) -> str:
    # Where the tokenizer lies does not matter, its contents do.
    decisive = {key: value for key, value in recipe.items() if key != "tokenizer"}
    return hashlib.sha256(json.dumps([FORMAT, decisive], sort_keys=True).encode()).hexdigest()


def _up_to_date(output: Path, fingerprint: str) -> Manifest | None:
    """The manifest of `output` if the recipe made it and it is whole."""
    if not output.exists():
        return None
    if not output.is_dir() or (not (output / FILE_NAME).exists() and any(output.iterdir())):
        raise InputError(f"output: {output} exists and was not made by `polycom prepare`; name another folder")
    if not (output / FILE_NAME).exists():
        return None
    manifest = Manifest.load(output)
    if manifest.recipe_fingerprint != fingerprint:
        print(f"{output} was made with other settings or from other files; preparing it again")
        return None
    damage = find_damage(output, manifest, manifest.shards)
    if damage is None and not (output / "tasks").is_dir():
        damage = f"{output / 'tasks'}: missing"
    if damage is not None:
        print(f"{damage}; preparing {output} again")
        return None
    return manifest


@contextmanager
def _sole_process(output: Path) -> Iterator[None]:
    """Holds the lock file beside `output`; the system lets go of the lock however the process ends."""
    import fcntl

    path = output.parent / f".{output.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"another process prepares {output}; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever held it before has removed the file: a lock on what is no longer there keeps nobody out.
            if not _is_at(path, file.fileno()):
                continue
            try:
                yield
            finally:
                path.unlink()
            return


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one that now has this path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _rebuild(config: PrepareConfig, recipe: dict[str, Any], fingerprint: str, output: Path) -> Manifest:
    """Builds in a sibling folder and puts it in place of `output`; the caller holds the lock."""
    building, replaced = (output.parent / f".{output.name}.{state}" for state in ("building", "replaced"))
    for stale in (building, replaced):
        if stale.exists():
            shutil.rmtree(stale)
    try:
        manifest = _build(config, recipe, fingerprint, building)
        if output.exists():
            output.rename(replaced)
        building.rename(output)
    finally:
        for folder in (building, replaced):
            shutil.rmtree(folder, ignore_errors=True)
    _print_summary(manifest, output)
    return manifest


def _build(config: PrepareConfig, recipe: dict[str, Any], fingerprint: str, folder: Path) -> Manifest:
    def documents() -> Iterator[Document]:
        return iterate_documents(config.sources, config.text_column, config.id_column)

    rule = HoldOut.survey(track(documents(), "reading"), config.validation_fraction)
    num_documents = sum(survey.num_documents for survey in rule.domains.values())
    num_characters = sum(survey.num_characters for survey in rule.domains.values())
    if config.tokenizer is None:
        sample = _tokenizer_sample(track(documents(), "training the tokenizer", num_documents, num_characters), rule)
        tokenizer = Tokenizer.train(sample, config.vocab_size)
    else:
        tokenizer = Tokenizer.load(config.tokenizer, config.eos_token)
    tokenizer.save(folder / _TOKENIZER_FILE)
    tracked = track(documents(), "encoding", num_documents, num_characters)
    shards, pools = _write_shards(tracked, rule, tokenizer, folder, config.shard_tokens)
    if not any(shard.split == "train" for shard in shards):
        raise InputError("sources: every document is held out or repeats one that is; add text to train on")
    write_heldout_tasks(folder / "tasks", pools, config.questions_per_domain)
    _print_rule(rule)
    manifest = Manifest(
        dtype=token_dtype(tokenizer.vocab_size).name,
        tokenizer=_record(tokenizer),
        document_rule=DOCUMENT_RULE,
        recipe=recipe,
        recipe_fingerprint=fingerprint,
        fingerprint=content_fingerprint(tokenizer.fingerprint, shards),
        shards=shards,
    )
    manifest.save(folder)
    return manifest


def _tokenizer_sample(documents: Iterable[Document], rule: HoldOut) -> Iterator[str]:
    """Training texts chosen by hash, about 20 million characters of them."""
    total = sum(survey.num_sample_characters for survey in rule.domains.values())
    below = int(min(1.0, _TOKENIZER_SAMPLE_CHARACTERS / total) * 2**64)
    for document in documents:
        if document_hash(document, "tokenizer/") < below and rule.split(document) == "train":
            yield document.text[:SAMPLE_CHARACTERS]


def _write_shards(
    documents: Iterable[Document], rule: HoldOut, tokenizer: Tokenizer, folder: Path, shard_tokens: int
) -> tuple[list[ShardFile], dict[str, HeldOutPool]]:
    """Encodes every document that the rule keeps; also gathers held-out documents for questions."""
    writers: dict[tuple[str, str], ShardWriter] = {}
    pools: dict[str, HeldOutPool] = {}
    dtype = token_dtype(tokenizer.vocab_size)
    for batch in _batches(_keep(documents, rule)):
        encodings = tokenizer.encode_batch([document.text for _, document in batch])
        for (split, document), ids in zip(batch, encodings, strict=True):
            key = (split, document.domain)
            if key not in writers:
                writers[key] = ShardWriter(folder, *key, dtype, shard_tokens)
            ids.append(tokenizer.eos_token_id)
            writers[key].add(ids, len(document.text.encode()))
            if split == "validation":
                pools.setdefault(document.domain, HeldOutPool()).add(document)
    ordered = [
        writers[split, domain]
        for split in ("train", "validation")
        for domain in rule.domains
        if (split, domain) in writers
    ]
    return [shard for writer in ordered for shard in writer.close()], pools


def _keep(documents: Iterable[Document], rule: HoldOut) -> Iterator[tuple[str, Document]]:
    for document in documents:
        split = rule.split(document)
        if split is None:
            rule.domains[document.domain].num_dropped += 1
        else:
            yield split, document


def _batches(documents: Iterable[tuple[str, Document]]) -> Iterator[list[tuple[str, Document]]]:
    """Batches large enough to be encoded in parallel and small enough for memory."""
    batch, characters = [], 0
    for entry in documents:
        batch.append(entry)
        characters += len(entry[1].text)
        if characters >= _BATCH_CHARACTERS or len(batch) >= _BATCH_DOCUMENTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _record(tokenizer: Tokenizer) -> TokenizerRecord:
    return TokenizerRecord(
        file=_TOKENIZER_FILE,
        sha256=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        eos_token=tokenizer.eos_token,
        eos_token_id=tokenizer.eos_token_id,
    )


def _print_rule(rule: HoldOut) -> None:
    """Says where the hold-out rule did something that a reader would not expect."""
    for domain, survey in rule.domains.items():
        if survey.num_documents == 1 and rule.fraction > 0:
            print(f"{domain}: one document only, so nothing is held out; split it to get validation text")
        if survey.num_dropped:
            print(f"{domain}: left out {survey.num_dropped} documents whose text is that of a held-out one")


def _print_summary(manifest: Manifest, output: Path) -> None:
    for split in ("train", "validation"):
        for domain in manifest.domains(split):
            shards = [shard for shard in manifest.shards if (shard.split, shard.domain) == (split, domain)]
            documents, tokens, size = (
                sum(getattr(shard, name) for shard in shards) for name in ("num_documents", "num_tokens", "num_bytes")
            )
            print(f"{split}/{domain}: {documents:,} documents, {tokens:,} tokens, {size / 1e6:,.2f} MB of text")
    print(f"prepared {output} (fingerprint {manifest.fingerprint[:12]})")
    sys.stdout.flush()

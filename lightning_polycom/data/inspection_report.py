"""What `polycom data inspect` prints: figures of shards as tables, and text where a tokenizer is known."""

from collections.abc import Iterable

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_polycom.data.formats import ForeignShards
from lightning_polycom.data.inspection import Excerpt, IdCounts
from lightning_polycom.data.manifest import DocumentCounts, Manifest
from lightning_polycom.data.tokenizer import Tokenizer

_QUANTILES = (0, 0.1, 0.5, 0.9, 0.99, 1)
_MOST_FILES = 20


def print_manifest(console: Console, manifest: Manifest) -> None:
    """Format, tokenizer and rules of a prepared folder, and what it holds of each split and domain."""
    tokenizer = manifest.tokenizer
    _print_facts(
        console,
        {
            "format": manifest.format,
            "dtype": manifest.dtype,
            "fingerprint": manifest.fingerprint,
            "tokenizer": f"{tokenizer.file}, {tokenizer.vocab_size:,} ids, SHA-256 {tokenizer.sha256[:12]}",
            "end of text": f"{tokenizer.eos_token!r}, id {tokenizer.eos_token_id}",
            "documents": manifest.document_rule,
        },
    )
    table = _table(
        "split", "domain", "files", "tokens", "documents", "bytes of text", "bytes per token", text_columns=2
    )
    for split, domain in dict.fromkeys((shard.split, shard.domain) for shard in manifest.shards):
        shards = [s for s in manifest.shards if (s.split, s.domain) == (split, domain)]
        tokens, num_bytes = (sum(getattr(s, name) for s in shards) for name in ("num_tokens", "num_bytes"))
        documents = sum(shard.num_documents for shard in shards)
        counts = (f"{count:,}" for count in (len(shards), tokens, documents, num_bytes))
        table.add_row(split, domain, *counts, f"{num_bytes / max(1, tokens):.2f}")
    console.print(table, "")
    if manifest.documents:
        _print_document_counts(console, manifest.documents)


def _print_document_counts(console: Console, documents: dict[str, DocumentCounts]) -> None:
    """What the text had, and what of it was left out."""
    table = _table(
        "domain",
        "documents read",
        "repeat an earlier text",
        "left out: duplicates",
        "copies of held-out",
        "repetitions",
        text_columns=1,
    )
    for domain, counts in documents.items():
        table.add_row(
            domain,
            f"{counts.num_documents:,}",
            f"{counts.num_duplicates:,}",
            f"{counts.num_dropped_duplicates:,}",
            f"{counts.num_copies_of_held_out:,}",
            f"{counts.num_dropped_repetitions:,}",
        )
    console.print(table, "")


def print_foreign(console: Console, shards: ForeignShards, eos: tuple[str, int] | None) -> None:
    """Format and counts of other tools' files; `eos` is the end-of-text token and its id, if a tokenizer was given."""
    documents = shards.num_documents
    facts = {
        "format": ", ".join(shards.formats),
        "dtype": shards.dtype.name,
        "tokens": f"{shards.num_tokens:,}",
        "documents": "not recorded" if documents is None else f"{documents:,}",
        "fingerprint": shards.fingerprint,
    }
    if eos is not None:
        facts["end of text"] = f"{eos[0]!r}, id {eos[1]}, {_place_of(shards, eos[1])}"
    _print_facts(console, facts)
    table = _table("file", "bytes", text_columns=1)
    for file in shards.files[:_MOST_FILES]:
        table.add_row(str(file), f"{file.stat().st_size:,}")
    if len(shards.files) > _MOST_FILES:
        table.add_row(f"and {len(shards.files) - _MOST_FILES:,} more", "")
    console.print(table, "")


def print_lengths(console: Console, lengths: np.ndarray | None) -> None:
    """Quantiles of the document lengths, in tokens."""
    if lengths is None:
        console.print("Document lengths: this format does not record documents.\n")
        return
    table = _table("documents read", *(f"{quantile:.0%}" for quantile in _QUANTILES), "mean", text_columns=0)
    values = [f"{value:,.0f}" for value in np.quantile(lengths, _QUANTILES, method="nearest")]
    table.add_row(f"{len(lengths):,}", *values, f"{lengths.mean():,.1f}")
    console.print("Tokens per document, by quantile:")
    console.print(table, "")


def print_ids(console: Console, found: IdCounts, num_tokens: int, tokenizer: Tokenizer | None, number: int) -> None:
    """How much of the vocabulary occurs, and the most frequent ids, of all tokens or of the sample that was read."""
    part = "all" if found.num_sampled == num_tokens else f"a sample of {found.num_sampled:,} of the"
    line = f"In {part} {num_tokens:,} tokens {len(found.ids):,} different ids occur"
    if tokenizer is not None:
        inside = int(np.count_nonzero((found.ids >= 0) & (found.ids < tokenizer.vocab_size)))
        line += f", {inside / tokenizer.vocab_size:.1%} of the vocabulary of {tokenizer.vocab_size:,}"
    console.print(f"{line}; they lie between {found.ids[0]} and {found.ids[-1]}.")
    table = _table("id", "share", *([] if tokenizer is None else ["text"]), text_columns=0)
    for token, count in found.most_frequent(number):
        text = [] if tokenizer is None else [Text(repr(_decode(tokenizer, [token])))]
        table.add_row(str(token), f"{count / found.num_sampled:.2%}", *text)
    console.print(table, "")


def print_excerpts(console: Console, found: Iterable[Excerpt], tokenizer: Tokenizer | None) -> None:
    """Texts, or ids where no tokenizer is known."""
    for excerpt in found:
        length = excerpt.document_length
        what = "" if length is None else f", a document of {length:,} tokens"
        rest = "" if length in (None, len(excerpt.ids)) else f" (its first {len(excerpt.ids)})"
        console.rule(f"token {excerpt.start:,}{what}{rest}", align="left")
        shown = " ".join(map(str, excerpt.ids)) if tokenizer is None else _decode(tokenizer, excerpt.ids)
        console.print(Text(_printable(shown)))


def _print_facts(console: Console, facts: dict[str, str]) -> None:
    width = max(map(len, facts))
    for name, value in facts.items():
        console.print(Text(f"{name:<{width}}  {value}"))
    console.print()


def _table(*columns: str, text_columns: int) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        is_text = number < text_columns or column == "text"
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    return table


def _place_of(shards: ForeignShards, eos: int) -> str:
    """Where the shards' ends suggest that the end-of-text id stands: tools differ in that."""
    first, last = int(shards.read(0, 1)[0]), int(shards.read(shards.num_tokens - 1, 1)[0])
    if last == eos:
        return "after each document, as the last token suggests"
    return (
        "before each document, as the first token suggests" if first == eos else "neither the first nor the last token"
    )


def _decode(tokenizer: Tokenizer, ids: list[int]) -> str:
    return tokenizer.decode([token for token in ids if 0 <= token < tokenizer.vocab_size])


def _printable(text: str) -> str:
    """Control characters spelt out: a text from anywhere must not command the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)

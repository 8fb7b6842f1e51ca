"""`polycom data inspect`: what token shards hold."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_polycom.commands.parsing import OneLineParser
from lightning_polycom.errors import InputError

if TYPE_CHECKING:
    from lightning_polycom.data.inspection import Shards
    from lightning_polycom.data.tokenizer import Tokenizer


@dataclass
class InspectOptions:
    """What to show of the shards.

    Args:
        split: Whose tokens are read; of another tool's folder, whose files are taken.
        domain: One domain of a prepared folder; default all.
        tokenizer: A tokenizer.json, for shards of other tools.
        eos_token: Its end-of-text token, if that has an unusual name.
        dtype: Of the ids, where the files do not tell, such as uint16.
        documents: How many are shown.
        length: How many tokens of each.
        frequent: How many of the most frequent ids are shown.
        verify: Read every shard.
    """

    split: str = "train"
    domain: str | None = None
    tokenizer: str | None = None
    eos_token: str | None = None
    dtype: str | None = None
    documents: int = 2
    length: int = 256
    frequent: int = 16
    verify: bool = False

    def __post_init__(self) -> None:
        for name, least in (("documents", 0), ("length", 1), ("frequent", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: found {getattr(self, name)}; it must be at least {least}")


def main() -> None:
    """Parses the options and prints the report."""
    inspect = OneLineParser(
        description="Print what token shards hold: those of `polycom prepare`, of dolma (OLMo), Megatron, llm.c, "
        "nanoGPT and NumPy, and saved Hugging Face data sets."
    )
    inspect.add_argument("path", nargs="+", help="A prepared folder; or files, a folder or a glob of another tool's.")
    inspect.add_class_arguments(InspectOptions, as_group=False, skip={"verify"})
    inspect.add_argument(
        "--verify",
        action="store_true",
        help="Read every shard: compare the checksums, or, of other tools, look for ids outside the vocabulary.",
    )
    parser = OneLineParser(prog="polycom data", description="Look into token shards.")
    parser.add_subcommands().add_subcommand("inspect", inspect, help="print what token shards hold")
    values = parser.parse_args(sys.argv[2:]).inspect.as_dict()
    paths = values.pop("path")
    inspect_shards(paths[0] if len(paths) == 1 else paths, InspectOptions(**values))


def inspect_shards(path: str | list[str], options: InspectOptions) -> None:
    """Prints format, counts, document lengths, ids and some documents; verifies if asked to.

    Raises:
        InputError: no shards there, damage, or a tokenizer that does not fit.
    """
    from rich.console import Console

    from lightning_polycom.data import inspection, inspection_report
    from lightning_polycom.data.manifest import Manifest
    from lightning_polycom.data.shards import native_folder, open_shards

    folder, console = native_folder(path), Console(highlight=False, soft_wrap=True)
    tokenizer = _tokenizer(folder, options)
    if options.verify and tokenizer is None:
        raise InputError(
            "verify: other tools' shards have no checksums; give the tokenizer, to look for ids outside it"
        )
    vocab_size = None if folder is not None or tokenizer is None else tokenizer.vocab_size
    shards = open_shards(path, options.split, options.domain, dtype=options.dtype, vocab_size=vocab_size)
    if folder is not None:
        inspection_report.print_manifest(console, Manifest.load(folder))
        console.print(f"Below: {options.split}, {options.domain or 'all domains'}.")
    else:
        eos = None if tokenizer is None else (tokenizer.eos_token, tokenizer.eos_token_id)
        inspection_report.print_foreign(console, shards, eos)
    inspection_report.print_lengths(console, inspection.document_lengths(shards))
    counts = inspection.count_ids(shards)
    inspection_report.print_ids(console, counts, shards.num_tokens, tokenizer, options.frequent)
    found = inspection.excerpts(shards, options.documents, options.length)
    inspection_report.print_excerpts(console, found, tokenizer)
    if options.verify:
        console.print(_verify(folder, shards, tokenizer))


def _tokenizer(folder: Path | None, options: InspectOptions) -> "Tokenizer | None":
    from lightning_polycom.data.manifest import Manifest
    from lightning_polycom.data.tokenizer import Tokenizer

    if folder is not None:
        for name in ("tokenizer", "eos_token"):
            if getattr(options, name) is not None:
                raise InputError(f"{name}: {folder} has its own, which is used; leave it out")
        record = Manifest.load(folder).tokenizer
        return Tokenizer.load(folder / record.file, record.eos_token)
    return None if options.tokenizer is None else Tokenizer.load(options.tokenizer, options.eos_token)


def _verify(folder: Path | None, shards: "Shards", tokenizer: "Tokenizer") -> str:
    """Reads every file and returns the line to print."""
    from lightning_polycom.data.inspection import verify_ids
    from lightning_polycom.data.manifest import Manifest
    from lightning_polycom.data.shards import verify_checksums

    if folder is not None:
        files = [folder / shard.file for shard in Manifest.load(folder).shards]
        with _progress(sum(file.stat().st_size for file in files)) as report:
            verify_checksums(folder, report)
        return f"verified: the SHA-256 of each of {len(files):,} files is the manifest's"
    with _progress(shards.num_tokens * shards.dtype.itemsize) as report:
        verify_ids(shards, tokenizer.vocab_size, report)
    return f"verified: each of {shards.num_tokens:,} ids is in the vocabulary; this format has no checksums"


@contextmanager
def _progress(num_bytes: int) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of bytes just read; a bar on stderr if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("verify"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("verify", total=num_bytes)
        yield lambda count: progress.update(task, advance=count)

"""What `polycom prepare` costs beside the tokenizer's own work.

Run: python benchmarks/prepare.py [--text FILES] [--tokenizer tokenizer.json] [--megabytes 48] [--rounds 3]

The yardstick is the tokenizers library's `encode_batch_fast` of all documents in one call, on all cores, with the texts
in memory and the ids left where the library has them. Beside it stand whole preparations of the same documents from a
.jsonl file: reading it twice, hashes, encoding, shards, checksums, questions. They alternate; CPU seconds are those of
all processes and do not see busy neighbours, wall time does.

Claim: a preparation takes at most 1.2 times the yardstick's time.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median

from lightning_polycom.data import PrepareConfig, Tokenizer, prepare
from lightning_polycom.data.sources import Columns, plan_units, read_documents

GOAL = 1.2


def gather_texts(sources: list[str], num_bytes: int) -> list[str]:
    """Texts of the sources, from the beginning again if there are too few, about `num_bytes` together."""
    units = [unit for source in sources for unit in plan_units(source, Columns(), Path())]
    texts = [document.text for unit in units for _, document in read_documents(unit, Columns())]
    taken, total = [], 0
    while total < num_bytes:
        # A mark in front keeps the copies from being exact ones.
        text = f"{len(taken)} {texts[len(taken) % len(texts)]}"
        taken.append(text)
        total += len(text.encode())
    return taken


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall time and CPU seconds of all processes."""
    started, cpu = time.perf_counter(), cpu_seconds()
    work()
    return time.perf_counter() - started, cpu_seconds() - cpu


def cpu_seconds() -> float:
    """CPU seconds of this process and of those it has ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(texts: list[str], tokenizer: Path, folder: Path, workers: list[int], rounds: int) -> dict[str, list]:
    """(wall, CPU) of every round for the yardstick and each number of processes."""
    source = folder / "text.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    backend = Tokenizer.load(tokenizer)._backend
    found: dict[str, list] = {"encode_batch_fast": [], **{f"prepare, {n} processes": [] for n in workers}}
    for number in range(rounds):
        found["encode_batch_fast"].append(timed(lambda: backend.encode_batch_fast(texts, add_special_tokens=False)))
        for count in workers:
            config = PrepareConfig(sources=[str(source)], tokenizer=str(tokenizer), num_workers=count)
            output = folder / f"out-{number}-{count}"
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
                found[f"prepare, {count} processes"].append(timed(lambda: prepare(config, output)))  # noqa: B023
    return found


def print_table(found: dict[str, list], num_bytes: int) -> None:
    """A line for each way: medians, and the ratio to the yardstick of the same round."""
    yardstick = found["encode_batch_fast"]
    print(f"{'':<24}{'wall':>9}{'MB/s':>8}{'CPU':>9}{'wall ratio':>12}{'CPU ratio':>11}")
    for way, times in found.items():
        wall, cpu = (median(column) for column in zip(*times, strict=True))
        ratios = [[own / base for own, base in zip(*pair, strict=True)] for pair in zip(times, yardstick, strict=True)]
        wall_ratio, cpu_ratio = (median(column) for column in zip(*ratios, strict=True))
        verdict = (
            "" if way == "encode_batch_fast" else f"  {'met' if wall_ratio <= GOAL else 'NOT met'}: at most {GOAL}"
        )
        speed = num_bytes / 1e6 / wall
        print(f"{way:<24}{wall:>7.2f} s{speed:>8.1f}{cpu:>7.2f} s{wall_ratio:>12.2f}{cpu_ratio:>11.2f}{verdict}")


def main() -> None:
    """Gathers the text, measures in turn, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", nargs="+", default=["python_stdlib"], help="sources, as prepare takes them")
    parser.add_argument("--tokenizer", type=Path, help="default: one of 8,192 ids, trained on the text")
    parser.add_argument("--megabytes", type=float, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, os.cpu_count()])
    arguments = parser.parse_args()
    texts = gather_texts(arguments.text, int(arguments.megabytes * 1e6))
    num_bytes = sum(len(text.encode()) for text in texts)
    with tempfile.TemporaryDirectory() as name:
        path = arguments.tokenizer or Path(name) / "tokenizer.json"
        if arguments.tokenizer is None:
            Tokenizer.train(texts[:: max(1, int(arguments.megabytes // 10))], 8192).save(path)
        print(f"{len(texts):,} documents, {num_bytes / 1e6:.1f} MB, {os.cpu_count()} cores")
        print_table(measure(texts, path, Path(name), arguments.workers, arguments.rounds), num_bytes)


if __name__ == "__main__":
    main()

"""Opening a trillion tokens: seconds and memory of `open_shards`, its order and a first batch, against the corpus size.

Run: python benchmarks/data_start_up.py [--shards 10 100 1000 10000]

The shards are sparse files of 100 million uint16 tokens and 1,000 documents each, so that they take no space on disk.
Each size is opened in a process of its own; memory is the peak resident set of that process, imports included.

Claim: 10,000 shards, 1e12 tokens, open in under a second and in under 200 MB.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOKENS, DOCUMENTS = 100_000_000, 1_000
SEQUENCE, BATCH = 4096, 8


def write_sparse_corpus(folder: Path, num_shards: int) -> None:
    """A prepared folder whose files have their sizes and no contents."""
    from lightning_polycom.data.manifest import Manifest, ShardFile, TokenizerRecord

    tokenizer = b"{}"
    (folder / "train").mkdir(parents=True)
    (folder / "tokenizer.json").write_bytes(tokenizer)
    shards = []
    for number in range(num_shards):
        name = f"train/text-{number:05d}"
        for suffix, size in ((".bin", 2 * TOKENS), (".documents.npy", 128 + 8 * (DOCUMENTS + 1))):
            with (folder / f"{name}{suffix}").open("wb") as file:
                file.truncate(size)
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        shards.append(ShardFile(f"{name}.bin", "train", "text", TOKENS, DOCUMENTS, 4 * TOKENS, digest))
    record = TokenizerRecord("tokenizer.json", hashlib.sha256(tokenizer).hexdigest(), 50_000, "<|endoftext|>", 0)
    Manifest("uint16", record, "end of text after each document", {}, "0" * 64, "0" * 64, shards).save(folder)


def open_and_read(folder: Path) -> dict[str, float]:
    """Seconds and MiB of opening the folder and reading one shuffled batch."""
    from lightning_polycom.data import SampleOrder, open_shards

    start = time.perf_counter()
    shards = open_shards(folder)
    opened = time.perf_counter() - start
    order = SampleOrder((shards.num_tokens - 1) // SEQUENCE, 1, shards.fingerprint)
    shards.read_batch(order.indices(0, BATCH) * SEQUENCE, SEQUENCE + 1)
    total = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"tokens": shards.num_tokens, "open": opened, "first_batch": total, "mib": peak}


def open_in_process(num_shards: int) -> dict[str, float]:
    """What `open_and_read` finds of a new corpus of this size, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "corpus"
        write_sparse_corpus(folder, num_shards)
        command = [sys.executable, __file__, "--open", str(folder)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Writes a corpus of each size, opens it in another process, and prints a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, nargs="+", default=[10, 100, 1_000, 10_000])
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.open is not None:
        print(json.dumps(open_and_read(arguments.open)))
        return
    print(f"{'shards':>8}{'tokens':>10}{'open':>10}{'first batch':>14}{'memory':>12}")
    for num_shards in arguments.shards:
        found = open_in_process(num_shards)
        print(
            f"{num_shards:>8,}{found['tokens']:>10.0e}{found['open']:>8.3f} s{found['first_batch']:>12.3f} s"
            f"{found['mib']:>8.1f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()

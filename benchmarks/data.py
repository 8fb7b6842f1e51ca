"""Shuffled batches of 8 x 4096 from token shards, in one thread: tokens per second, ours and litdata's.

Run: python benchmarks/data.py [--tokens 500_000_000] [--rounds 15] [--batches 200] [--output data.json]

`plain`, `documents apart` and `repetitions masked` are what a training run gets with no option, with
`data.separate_documents` and with `data.mask_repetitions`: int64 inputs and labels, without the thread that prepares
them while the model computes. litdata's StreamingDataset (TokensLoader, shuffled) reads the same tokens, written by its
own `optimize`. It is iterated as it is, eight rows stacked, and through a DataLoader without workers; it gives one
tensor of ids in the dtype on disk, which is less work. `copy` copies the bytes of one int64 batch: if it varies, so
does the machine. The tokens are random, in documents of 400 tokens in the median, in a temporary folder, and read once
before. Most windows are read for the first time, as in training.

All take turns in every round; printed are the medians of the rounds and their quartiles. Speeds are of wall time; the
share of it that the process was on a core stands beside them.

Claims: at least 400 million tokens per second plain and 100 million with documents apart; plain is faster than litdata.
litdata is in the extra `benchmark`; without it its lines are left out.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import torch

from lightning_polycom.benchmarking.random_shards import write_random_shards
from lightning_polycom.data import SampleOrder, open_shards
from lightning_polycom.data.batches import BatchPlan, TrainingStream
from lightning_polycom.training.processor import processor_name

SEQUENCE, BATCH, VOCABULARY = 4096, 8, 50_304
LITDATA_CHUNK, LITDATA_PIECE = 4096, 256  # in blocks of SEQUENCE + 1
PLAIN, APART, MASKED, COPY = "plain", "documents apart", "repetitions masked", "copy"
LITDATA, LITDATA_LOADER = "litdata, iterated", "litdata, DataLoader"
GOALS = {PLAIN: 400e6, APART: 100e6}  # tokens per second

Speed = tuple[float, float]  # tokens per second, share of the time on a core


def stream(folder: Path, **options: bool) -> Iterator[Any]:
    """Our batches on one rank."""
    shards = open_shards(folder)
    for file in shards.files:
        file.read_bytes()
    order = SampleOrder((shards.num_tokens - 1) // SEQUENCE, 1, shards.fingerprint)
    return iter(TrainingStream(shards, order, SEQUENCE, BatchPlan(BATCH, BATCH, 1), 0, 0, **options))


def copies() -> Iterator[Any]:
    """The bytes of one int64 batch, copied to a new one."""
    batch = np.zeros((BATCH, SEQUENCE + 1), np.int64)
    while True:
        yield batch.copy()


def litdata_arms(shards: Path, folder: Path) -> dict[str, Iterator[Any]]:
    """litdata's two ways to give rows of SEQUENCE + 1 ids, or none where it is not installed."""
    # Its defaults are folders in the system's temporary folder, which it empties.
    os.environ["DATA_OPTIMIZER_CACHE_FOLDER"] = str(folder / "cache")
    os.environ["DATA_OPTIMIZER_DATA_CACHE_FOLDER"] = str(folder / "data_cache")
    try:
        from litdata import StreamingDataset, TokensLoader, optimize
    except ImportError as error:
        print(f"litdata left out: {error}; pip install 'lightning-polycom[benchmark]'")
        return {}
    block, output = SEQUENCE + 1, folder / "litdata"
    optimize(
        fn=partial(pieces, shards, LITDATA_PIECE * block),
        inputs=list(range(len(open_shards(shards).files))),
        output_dir=str(output),
        chunk_size=LITDATA_CHUNK * block,
        num_workers=1,
        item_loader=TokensLoader(),
    )
    for file in output.iterdir():
        file.read_bytes()

    def dataset() -> Any:
        return StreamingDataset(str(output), item_loader=TokensLoader(block), shuffle=True, seed=1)

    def iterated() -> Iterator[Any]:
        while True:
            rows = iter(dataset())
            yield from (torch.stack(group) for group in zip(*[rows] * BATCH, strict=False))

    def loaded() -> Iterator[Any]:
        while True:
            yield from torch.utils.data.DataLoader(dataset(), BATCH, num_workers=0, drop_last=True)

    return {LITDATA: iterated(), LITDATA_LOADER: loaded()}


def pieces(folder: Path, length: int, file: int) -> Iterator[torch.Tensor]:
    """The tokens of one shard, `length` at a time."""
    shards = open_shards(folder)
    ids = np.fromfile(shards.files[file], shards.dtype)
    yield from torch.from_numpy(ids).split(length)


def measure(arms: dict[str, Iterator[Any]], rounds: int, batches: int) -> dict[str, list[Speed]]:
    """Tokens per second of every arm in every round; the arms begin in turns."""
    found: dict[str, list[Speed]] = {name: [] for name in arms}
    names = list(arms)
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            found[name].append(_speed(partial(next, arms[name]), batches))
    return found


def _speed(make: Callable[[], Any], batches: int) -> Speed:
    start, on_core = time.perf_counter(), time.process_time()
    for _ in range(batches):
        make()
    seconds = time.perf_counter() - start
    return batches * BATCH * SEQUENCE / seconds, (time.process_time() - on_core) / seconds


def report(found: dict[str, list[Speed]]) -> dict[str, Any]:
    """Prints a line for each arm and each goal, and gives both as plain types."""
    speeds, goals = {}, []
    for name, rounds in found.items():
        low, middle, high = quantiles([speed for speed, _ in rounds], n=4)
        share = median(share for _, share in rounds)
        speeds[name] = {"lower_quartile": low, "median": middle, "upper_quartile": high, "share_on_core": share}
        spread = f"({low / 1e6:.1f} to {high / 1e6:.1f})"
        print(f"  {name:<22}{middle / 1e6:>8.1f} M tokens/s {spread}, {share:.0%} on a core")
    limits = [(name, goal, f"at least {goal / 1e6:.0f} M tokens/s") for name, goal in GOALS.items()]
    theirs = max((speeds[name]["median"] for name in (LITDATA, LITDATA_LOADER) if name in speeds), default=None)
    if theirs is not None:
        limits.append((PLAIN, theirs, f"faster than litdata's {theirs / 1e6:.1f} M tokens/s"))
    for name, limit, what in limits:
        ratio = speeds[name]["median"] / limit
        goals.append({"arm": name, "goal": what, "ratio": ratio, "met": ratio > 1})
        print(f"  {'met' if ratio > 1 else 'NOT met':<8}{name}: {what}; ratio {ratio:.2f}")
    return {"speeds": speeds, "goals": goals}


def main() -> None:
    """Writes the tokens, measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=500_000_000)
    parser.add_argument("--rounds", type=int, default=15, help="at least 2")
    parser.add_argument("--batches", type=int, default=200, help="in each round")
    parser.add_argument("--output", type=Path, help="a JSON file of the same numbers")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = folder / "shards"
        write_random_shards(shards, arguments.tokens, VOCABULARY)
        arms = {
            COPY: copies(),
            PLAIN: stream(shards),
            APART: stream(shards, separate_documents=True),
            MASKED: stream(shards, mask_repetitions=True),
        }
        arms |= litdata_arms(shards, folder)
        for batches in arms.values():
            _speed(partial(next, batches), 20)
        case = f"{arguments.tokens:,} tokens, batches of {BATCH} x {SEQUENCE}, {arguments.rounds} rounds"
        print(f"{processor_name()}, torch {torch.__version__}, numpy {np.__version__}; {case}")
        found = report(measure(arms, arguments.rounds, arguments.batches))
    if arguments.output is not None:
        record = {"processor": processor_name(), "tokens": arguments.tokens, "rounds": arguments.rounds, **found}
        arguments.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

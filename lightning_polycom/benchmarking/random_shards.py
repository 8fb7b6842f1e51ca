"""Shards of random tokens, for measurements that need a run's data where there is none."""

import hashlib
from pathlib import Path

import numpy as np

from lightning_polycom.data.manifest import Manifest, TokenizerRecord
from lightning_polycom.data.shards import ShardWriter

END_OF_TEXT = 0
MEDIAN_DOCUMENT = 400  # tokens


def write_random_shards(folder: Path, num_tokens: int, vocab_size: int, shard_tokens: int = 100_000_000) -> None:
    """Makes `folder`, as `polycom prepare` would, with at least `num_tokens` tokens of `vocab_size` to train on.

    They are in documents of log-normal lengths, 400 tokens in the median, each with its end of text. The tokenizer is
    one in name only.
    """
    random, tokenizer = np.random.default_rng(0), b"{}"
    dtype = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_bytes(tokenizer)
    writer, written = ShardWriter(folder, "train", "text", dtype, shard_tokens), 0
    while written < num_tokens:
        lengths = np.maximum(2, random.lognormal(np.log(MEDIAN_DOCUMENT), 1, 4096).astype(np.int64))
        ids = random.integers(min(END_OF_TEXT + 1, vocab_size - 1), vocab_size, lengths.sum(), dtype.newbyteorder("="))
        ids[np.cumsum(lengths) - 1] = END_OF_TEXT
        for document in np.split(ids, np.cumsum(lengths)[:-1]):
            writer.add(document, 4 * len(document))
        written += len(ids)
    digest = hashlib.sha256(tokenizer).hexdigest()
    record = TokenizerRecord("tokenizer.json", digest, vocab_size, "<|endoftext|>", END_OF_TEXT)
    rule = "end of text after each document"
    manifest = Manifest(dtype.name, record, rule, {}, "0" * 64, "0" * 64, writer.close())
    manifest.save(folder)

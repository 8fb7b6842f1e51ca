"""Shards of random tokens are a prepared folder like any other."""

import numpy as np
import pytest

from lightning_polycom.benchmarking.random_shards import END_OF_TEXT, write_random_shards
from lightning_polycom.data import open_shards
from lightning_polycom.data.shard_selection import ShardSelection
from lightning_polycom.data.training_data import TrainingData


@pytest.mark.parametrize(("vocab_size", "dtype"), [(3, "uint16"), (2**16, "uint16"), (2**16 + 1, "uint32")])
def test_the_folder_opens_with_documents_and_its_vocabulary(tmp_path, vocab_size, dtype):
    write_random_shards(tmp_path / "shards", 1000, vocab_size)
    shards = open_shards(tmp_path / "shards")
    assert shards.num_tokens >= 1000 and shards.dtype == np.dtype(dtype) and shards.num_documents == 4096
    ids = shards.read(0, shards.num_tokens)
    assert ids.max() == vocab_size - 1 if vocab_size == 3 else ids.max() < vocab_size
    assert np.count_nonzero(ids == END_OF_TEXT) == shards.num_documents
    data = TrainingData(ShardSelection(tmp_path / "shards"))
    assert data.tokenizer.vocab_size == vocab_size and data.validation == {}

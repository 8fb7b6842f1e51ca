import numpy as np
import pytest

from lightning_polycom.data import open_shards
from lightning_polycom.data.inspection import count_ids, document_lengths, excerpts, verify_ids
from lightning_polycom.errors import InputError


@pytest.fixture
def numbered(tmp_path):
    """A million ids without documents: i // 1000."""
    np.save(tmp_path / "a.npy", (np.arange(1_000_000) // 1000).astype("<u2"))
    return open_shards(tmp_path / "a.npy")


def test_all_ids_are_counted_or_a_bounded_sample_that_reaches_both_ends(numbered):
    whole = count_ids(numbered)
    assert whole.num_sampled == 1_000_000
    assert whole.ids.tolist() == list(range(1000)) and set(whole.counts) == {1000}
    sample = count_ids(numbered, 100_000)
    assert sample.num_sampled == sample.counts.sum() <= 100_000
    assert sample.ids[0] == 0 and sample.ids[-1] == 999
    assert len(count_ids(numbered, 10).ids) > 0


def test_most_frequent(tmp_path):
    np.save(tmp_path / "a.npy", np.array([5, 5, 5, 7, 9, 9], "<u2"))
    assert count_ids(open_shards(tmp_path / "a.npy")).most_frequent(2) == [(5, 3), (9, 2)]


def test_native_documents(small_prepared):
    shards = open_shards(small_prepared[0])
    lengths = document_lengths(shards)
    assert len(lengths) == shards.num_documents and lengths.sum() == shards.num_tokens
    found = excerpts(shards, 3, length=20_000)
    assert found[0].start == 0
    for excerpt in found:
        assert excerpt.document_length == len(excerpt.ids)
        assert excerpt.ids.count(shards.eos_token_id) == 1 and excerpt.ids[-1] == shards.eos_token_id
        assert excerpt.start == 0 or shards.read(excerpt.start - 1, 1)[0] == shards.eos_token_id


def test_places_where_documents_are_not_recorded(numbered):
    assert document_lengths(numbered) is None
    assert [(e.start, e.ids, e.document_length) for e in excerpts(numbered, 2, 2)] == [
        (0, [0, 0], None),
        (500_000, [500, 500], None),
    ]


def test_ids_outside_the_vocabulary_are_found(numbered):
    read = []
    verify_ids(numbered, 1000, read.append)
    assert sum(read) == 2_000_000
    with pytest.raises(InputError, match=r"token 998000 is id 998, outside a vocabulary of 998"):
        verify_ids(numbered, 998, read.append)

import pytest

from lightning_polycom.evaluation.batch_plan import pad_right, plan_batches, run_batches


@pytest.mark.parametrize("batch_tokens", [1, 20, 64, 10_000])
def test_every_item_once_longest_first_within_the_budget(batch_tokens):
    lengths = [(7 * i) % 23 + 1 for i in range(60)]
    batches = plan_batches(lengths, batch_tokens)
    assert sorted(item for batch in batches for item in batch) == list(range(60))
    flat = [lengths[item] for batch in batches for item in batch]
    assert flat == sorted(flat, reverse=True)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[item] for item in batch) <= batch_tokens
    if batch_tokens == 10_000:
        assert len(batches) == 1


def test_nothing_to_do_is_no_batch():
    assert plan_batches([], 100) == []
    assert run_batches([], lambda items: items) == []


def test_results_come_back_in_the_order_of_the_items():
    assert run_batches([[2, 0], [1], [3]], lambda items: [f"r{item}" for item in items]) == ["r0", "r1", "r2", "r3"]


def test_padding_is_on_the_right():
    assert pad_right([[1, 2, 3], [4]], 9, "cpu").tolist() == [[1, 2, 3], [4, 9, 9]]

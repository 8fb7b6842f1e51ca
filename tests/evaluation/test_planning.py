"""Inputs, trees, families and passes: each token once, each scored position found again, all within the budget."""

import random

import numpy as np
import pytest

from lightning_polycom.evaluation.encoding import Pair
from lightning_polycom.evaluation.inputs import distinct_inputs
from lightning_polycom.evaluation.passes import Batch, plan_batches, run_batches, steps
from lightning_polycom.evaluation.sharing import Sharing
from lightning_polycom.evaluation.token_tree import Tree, grow

WINDOW = 200


def pair(context: list[int], continuation: list[int]) -> Pair:
    return Pair(np.array(context, dtype=np.int32), np.array(continuation, dtype=np.int32))


def questions(shots: int, subjects: int = 2, per_subject: int = 9, seed: int = 0) -> list[Pair]:
    """Subjects whose questions share `shots` tokens; every question has four answers, some of one token."""
    draw = random.Random(seed)
    pairs = []
    for subject in range(subjects):
        examples = [7, subject, *(draw.randrange(50) for _ in range(shots))]
        for _ in range(per_subject):
            context = [*examples, *(draw.randrange(50) for _ in range(draw.randint(3, 12)))]
            length = draw.randint(1, 4)
            pairs += [pair(context, [draw.randrange(50) for _ in range(length)]) for _ in range(4)]
    draw.shuffle(pairs)
    return pairs


def branch(tree: Tree, column: int) -> list[int]:
    """The ids on the way to a column, read off `ends` alone."""
    return [int(tree.ids[c]) for c in range(column + 1) if tree.ends[c] > column]


def assert_answers(pairs: list[Pair], beginning: np.ndarray, tree: Tree, seen: list[int]) -> None:
    for item in tree.scored:
        context, continuation = (part.tolist() for part in pairs[item.request])
        assert item.targets.tolist() == continuation
        whole = (context + continuation)[-(WINDOW + 1) :]
        for step, column in enumerate(item.columns):
            before = whole[: len(whole) - len(continuation) + step]
            assert beginning.tolist() + branch(tree, column) == before
            assert tree.positions[column] == len(before) - 1
        seen.append(item.request)


@pytest.mark.parametrize("shots", [0, 20, 120, 400])
@pytest.mark.parametrize("row_tokens", [1, 64, 4096])
def test_every_request_finds_its_own_tokens_before_each_of_its_targets(shots, row_tokens):
    pairs, seen = [*questions(shots), pair([3], [4]), pair([3], [4, 5]), pair([1] * 300, [2])], []
    for beginning, trees in Sharing(distinct_inputs(pairs, WINDOW), 100.0, row_tokens).families():
        for tree in trees:
            assert_answers(pairs, beginning, tree, seen)
    assert sorted(seen) == list(range(len(pairs)))


def test_equal_inputs_are_one_and_neighbours_share_the_most():
    inputs = distinct_inputs([pair([1, 2, 3], [i]) for i in (9, 8, 7)] + [pair([1, 300], [2]), pair([1, 2], [3, 4])], 9)
    assert [ids.tolist() for ids in inputs.ids] == [[1, 2, 3], [1, 300]]
    assert inputs.requests == [[0, 1, 2, 4], [3]]
    assert inputs.shared.tolist() == [0, 1] and inputs.scored_from.tolist() == [1, 1]


def test_a_tree_is_depth_first_with_each_shared_token_once():
    inputs = distinct_inputs([pair([1, 2], [3, 4, 0]), pair([1, 2], [3, 5, 0]), pair([1, 6], [0])], 9)
    tree = grow(inputs, 0, 3, 0)
    assert tree.ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert tree.positions.tolist() == [0, 1, 2, 3, 3, 1]
    assert tree.ends.tolist() == [6, 5, 5, 4, 5, 6]
    assert not tree.is_chain and grow(inputs, 2, 3, 0).is_chain


def test_examples_that_many_questions_share_are_stored_once_for_each_subject():
    pairs = questions(shots=150)
    families = Sharing(distinct_inputs(pairs, WINDOW), 100.0, 4096).families()
    assert [len(family.beginning) for family in families] == [152, 152]
    assert sum(len(tree.ids) for family in families for tree in family.trees) < 18 * (12 + 4 * 4)


def test_what_is_not_worth_a_pass_is_not_stored():
    assert [len(f.beginning) for f in Sharing(distinct_inputs(questions(20), WINDOW), 100.0, 4096).families()] == [0]


def test_scored_tokens_are_never_part_of_a_stored_beginning():
    common = list(range(100))
    pairs = [pair(common[:40], [*common[40:], i, j]) for i in range(9) for j in range(20)]
    inputs = distinct_inputs(pairs, WINDOW)
    for beginning, trees in Sharing(inputs, 1.0, 120).families():
        assert len(beginning) <= 40
        for tree in trees:
            assert_answers(pairs, beginning, tree, [])


def test_texts_that_each_go_on_where_another_ends_do_not_exhaust_the_stack():
    pairs = [pair([1], [2] * length) for length in range(1, 1500)]
    families = Sharing(distinct_inputs(pairs, 2000), 100.0, 4096).families()
    assert sum(len(tree.ids) for family in families for tree in family.trees) < 4000


@pytest.mark.parametrize(("batch_tokens", "new_tokens"), [(1, 1), (300, 300), (400, 60), (10_000, 10_000)])
def test_batches_keep_to_the_budget(batch_tokens, new_tokens):
    families = Sharing(distinct_inputs(questions(150), WINDOW), 100.0, batch_tokens).families()
    batches = plan_batches(families, batch_tokens, new_tokens)
    trees = [id(tree) for family in families for tree in family.trees]
    assert sorted(id(tree) for batch in batches for tree in batch.trees) == sorted(trees)
    for batch in batches:
        width = max(len(tree.ids) for tree in batch.trees)
        rows = len(batch.trees)
        assert rows == 1 or (rows * width <= new_tokens and rows * (len(batch.beginning) + width) <= batch_tokens)


def test_a_beginning_is_read_before_its_batches_and_again_after_others():
    one, two, none = np.array([1]), np.array([2]), np.array([])
    order = [Batch(none, ["a"]), Batch(one, ["b"]), Batch(one, ["c"]), Batch(two, ["d"]), Batch(one, ["e"])]
    read = [(batch.beginning.tolist(), batch.trees) for batch in steps(order)]
    assert read == [
        ([], ["a"]),
        ([1], []),
        ([1], ["b"]),
        ([1], ["c"]),
        ([2], []),
        ([2], ["d"]),
        ([1], []),
        ([1], ["e"]),
    ]


def test_results_come_back_in_the_order_of_the_requests():
    assert run_batches([], lambda batch: {}, lambda: None) == []
    none = np.array([])
    batches = [Batch(none, [2, 0]), Batch(none, [1]), Batch(none, [3])]
    answers = run_batches(batches, lambda batch: {i: f"r{i}" for i in batch.trees}, lambda: None)
    assert answers == ["r0", "r1", "r2", "r3"]

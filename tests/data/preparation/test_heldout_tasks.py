import collections
import json

import pytest
from small_corpora import library_documents

from lightning_polycom.data.preparation.heldout_tasks import (
    HeldOutPool,
    make_perplexity_rows,
    make_questions,
    write_heldout_tasks,
)
from lightning_polycom.data.sources import Document


def make(count):
    return [Document("code", row["id"], row["text"]) for row in library_documents("d", count)]


def test_questions_continue_the_real_text():
    documents = make(12)
    texts = {document.id: document.text for document in documents}
    questions = make_questions(documents, 40)
    assert len(questions) == 40
    for question in questions:
        right = question["choices"][question["answer"]]
        assert question["context"] + right in texts[question["id"]]
        assert 200 < len(question["context"]) < 600
        assert not question["context"][-1].isspace()


def test_choices_are_alike_distinct_and_from_other_documents():
    documents = make(12)
    texts = {document.id: document.text for document in documents}
    for question in make_questions(documents, 40):
        assert len({" ".join(choice.split()) for choice in question["choices"]}) == 4
        for choice in question["choices"]:
            assert choice[0].isspace() and not choice[-1].isspace()
            assert 80 <= len(choice) <= 160
        wrong = [choice for n, choice in enumerate(question["choices"]) if n != question["answer"]]
        others = "\0".join(text for id_, text in texts.items() if id_ != question["id"])
        assert all(choice in others for choice in wrong)


def test_answers_take_each_place_equally_often_and_the_longest_is_no_hint():
    questions = make_questions(make(12), 100)
    counts = collections.Counter(question["answer"] for question in questions)
    assert counts == {0: 25, 1: 25, 2: 25, 3: 25}
    longest = [max(range(4), key=lambda n: len(q["choices"][n])) == q["answer"] for q in questions]
    assert 10 < sum(longest) < 45


def test_questions_are_deterministic_and_spread_over_documents():
    documents = make(12)
    questions = make_questions(documents, 24)
    assert questions == make_questions(documents, 24)
    assert set(collections.Counter(q["id"] for q in questions).values()) == {2}


def test_one_document_asks_against_its_own_far_places():
    document = make(4)[0]
    questions = make_questions([document], 10)
    assert len(questions) == 10
    for question in questions:
        place = document.text.index(question["context"])
        for choice in question["choices"]:
            assert choice in document.text
        wrong = [c for n, c in enumerate(question["choices"]) if n != question["answer"]]
        assert all(choice not in document.text[place : place + 400] for choice in wrong)


@pytest.mark.parametrize("text", ["too short", "x" * 5000, "----- " * 2000, "\n" * 5000, "word " * 3000])
def test_texts_without_questions(text):
    assert make_questions([Document("d", str(n), text) for n in range(5)], 10) == []


def test_perplexity_rows_are_cut():
    documents = [Document("d", str(n), f"{n}" * 20_000) for n in range(9)]
    rows = make_perplexity_rows(documents)
    assert [len(row["text"]) for row in rows] == [8000] * 7
    assert rows[0] == {"id": "0", "text": "0" * 8000}


def test_the_pool_is_bounded_and_does_not_depend_on_order():
    documents = [Document("d", str(n), f"{n} " * 50_000) for n in range(450)]
    forward, backward = HeldOutPool(), HeldOutPool()
    for one, other in zip(documents, reversed(documents), strict=True):
        forward.add(one)
        backward.add(other)
    assert forward.documents == backward.documents
    assert len(forward.documents) == 400
    assert max(len(document.text) for document in forward.documents) == 20_000


def test_files_are_written_only_with_rows(tmp_path):
    pools = {"code": HeldOutPool(), "short": HeldOutPool()}
    for document in make(8):
        pools["code"].add(document)
    pools["short"].add(Document("short", "1", "few words"))
    assert write_heldout_tasks(tmp_path, pools, 5) == {"code": 5, "short": 0}
    rows = [json.loads(line) for line in (tmp_path / "heldout_continuation.jsonl").read_text().splitlines()]
    assert [row["domain"] for row in rows] == ["code"] * 5
    assert json.loads((tmp_path / "heldout_perplexity_short.jsonl").read_text()) == {"id": "1", "text": "few words"}
    write_heldout_tasks(tmp_path / "none", {}, 5)
    assert list((tmp_path / "none").iterdir()) == []

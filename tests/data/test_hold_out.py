import pytest

from lightning_polycom.data.hold_out import HoldOut, document_hash
from lightning_polycom.data.sources import Document


def make(domain, count, prefix="text"):
    return [Document(domain, str(n), f"{prefix} {n}") for n in range(count)]


def splits(documents, fraction):
    rule = HoldOut.survey(documents, fraction)
    return {document: rule.split(document) for document in documents}


def test_the_share_held_out_is_the_fraction_asked_for():
    held_out = list(splits(make("a", 5000), 0.1).values()).count("validation")
    assert 400 < held_out < 600


def test_a_document_keeps_its_side_whatever_the_order_and_the_others():
    few = make("a", 500)
    first = splits(few, 0.1)
    second = splits([*make("b", 100, "other"), *make("a", 2000)[::-1]], 0.1)
    assert all(second[document] == side for document, side in first.items())
    more = splits(few, 0.3)
    assert all(more[document] == "validation" for document, side in first.items() if side == "validation")


def test_a_small_domain_holds_out_the_document_with_the_lowest_hash():
    documents = make("a", 5)
    assert min(map(document_hash, documents)) > 1e-6 * 2**64
    found = splits(documents, 1e-6)
    assert [d for d, side in found.items() if side == "validation"] == [min(documents, key=document_hash)]


@pytest.mark.parametrize(("documents", "fraction"), [(make("a", 1), 0.99), (make("a", 50), 0.0)])
def test_one_document_or_no_fraction_holds_out_nothing(documents, fraction):
    assert set(splits(documents, fraction).values()) == {"train"}


def test_copies_of_held_out_texts_are_dropped_from_all_domains():
    documents = make("a", 200)
    held_out = [d for d, side in splits(documents, 0.1).items() if side == "validation"]
    copies = [Document("b", f"copy {d.id}", d.text) for d in held_out]
    found = splits([*documents, *copies, Document("b", "own", "own text")], 0.1)
    assert held_out
    assert not any(found[copy] == "train" for copy in copies)
    trained = {d.text for d, side in found.items() if side == "train"}
    assert not trained & {d.text for d, side in found.items() if side == "validation"}

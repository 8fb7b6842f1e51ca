from array import array

import numpy as np
import pytest

from lightning_polycom.data.preparation import copies
from lightning_polycom.data.preparation.decisions import COPY_OF_HELD_OUT, DUPLICATE, TRAIN, VALIDATION, decide
from lightning_polycom.data.preparation.hashing import document_hash, text_hash
from lightning_polycom.data.sources import Document


def make(domain, count, prefix="text"):
    return [Document(domain, str(n), f"{prefix} {n}") for n in range(count)]


def decided(folder, documents, fraction, drop=False):
    """The code of every document, each domain a unit of its own, and the counts."""
    records = []
    for number, domain in enumerate(dict.fromkeys(document.domain for document in documents)):
        block = array("Q")
        for document in documents:
            if document.domain == domain:
                block.extend((document_hash(document), *text_hash(document.text.encode())))
        path = folder / f"{number}.records"
        path.write_bytes(block.tobytes())
        records.append((domain, path))
    decisions = decide(records, fraction, drop, folder / "decisions")
    ordered = [d for domain in dict(records) for d in documents if d.domain == domain]
    return dict(zip(ordered, decisions.of(0, len(ordered)).tolist(), strict=True)), decisions.domains


def codes(folder, documents, fraction, drop=False):
    return decided(folder, documents, fraction, drop)[0]


def test_the_share_held_out_is_the_fraction_asked_for(tmp_path):
    held_out = list(codes(tmp_path, make("a", 5000), 0.1).values()).count(VALIDATION)
    assert 400 < held_out < 600


def test_a_document_keeps_its_side_whatever_the_order_and_the_others(tmp_path):
    few = make("a", 500)
    first = codes(tmp_path, few, 0.1)
    second = codes(tmp_path, [*make("b", 100, "other"), *make("a", 2000)[::-1]], 0.1)
    assert all(second[document] == side for document, side in first.items())
    more = codes(tmp_path, few, 0.3)
    assert all(more[document] == VALIDATION for document, side in first.items() if side == VALIDATION)


def test_a_small_domain_holds_out_the_document_with_the_lowest_hash(tmp_path):
    documents = make("a", 5)
    assert min(map(document_hash, documents)) > 1e-6 * 2**64
    found = codes(tmp_path, documents, 1e-6)
    assert [d for d, side in found.items() if side == VALIDATION] == [min(documents, key=document_hash)]


@pytest.mark.parametrize(("documents", "fraction"), [(make("a", 1), 0.99), (make("a", 50), 0.0)])
def test_one_document_or_no_fraction_holds_out_nothing(tmp_path, documents, fraction):
    assert set(codes(tmp_path, documents, fraction).values()) == {TRAIN}


def test_copies_of_held_out_texts_are_left_out_of_all_domains(tmp_path):
    documents = make("a", 200)
    held_out = [d for d, side in codes(tmp_path, documents, 0.1).items() if side == VALIDATION]
    copied = [Document("b", f"copy {d.id}", d.text) for d in held_out]
    found, counts = decided(tmp_path, [*documents, *copied, Document("b", "own", "own text")], 0.1)
    assert held_out
    assert all(found[copy] in (VALIDATION, COPY_OF_HELD_OUT) for copy in copied)
    trained = {d.text for d, side in found.items() if side == TRAIN}
    assert not trained & {d.text for d, side in found.items() if side == VALIDATION}
    assert counts["b"].num_copies_of_held_out == sum(found[copy] == COPY_OF_HELD_OUT for copy in copied)
    assert (counts["a"].num_duplicates, counts["b"].num_duplicates) == (0, len(copied))


@pytest.mark.parametrize("bucket", [1 << 21, 40])
def test_duplicates_are_counted_and_dropped_as_a_plain_loop_does(tmp_path, monkeypatch, bucket):
    monkeypatch.setattr(copies, "_BUCKET_DOCUMENTS", bucket)
    rng = np.random.default_rng(0)
    documents = [Document("ab"[n % 2], str(n), f"text {rng.integers(150)}") for n in range(400)]
    documents.sort(key=lambda document: document.domain)
    kept, counts = decided(tmp_path, documents, 0.2)
    dropped, dropped_counts = decided(tmp_path, documents, 0.2, drop=True)
    held_out = {d.text for d, side in kept.items() if side == VALIDATION}
    seen, seen_in_split = set(), set()
    duplicates = {"a": 0, "b": 0}
    for document in documents:
        side = kept[document]
        assert side == (VALIDATION if side == VALIDATION else COPY_OF_HELD_OUT if document.text in held_out else TRAIN)
        again = side != COPY_OF_HELD_OUT and (side, document.text) in seen_in_split
        assert dropped[document] == (DUPLICATE if again else side)
        duplicates[document.domain] += document.text in seen
        seen.add(document.text)
        seen_in_split.add((side, document.text))
    for domain, count in duplicates.items():
        assert counts[domain].num_duplicates == dropped_counts[domain].num_duplicates == count
        assert counts[domain].num_dropped_duplicates == 0 < dropped_counts[domain].num_dropped_duplicates
    assert sorted(path.name for path in (tmp_path / "decisions").iterdir()) == ["codes"]


def test_no_documents_at_all(tmp_path):
    (tmp_path / "a.records").write_bytes(b"")
    decisions = decide([("a", tmp_path / "a.records")], 0.1, True, tmp_path / "decisions")
    assert decisions.domains["a"].num_documents == 0

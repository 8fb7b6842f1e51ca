"""Questions made from held-out documents: continuations to choose from, and texts to measure perplexity on."""

import heapq
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lightning_polycom.atomic import write_text
from lightning_polycom.data.preparation.hashing import document_hash
from lightning_polycom.data.sources import Document

NUM_CHOICES = 4
CONTEXT_CHARACTERS = 300
CHOICE_CHARACTERS = 80
PERPLEXITY_CHARACTERS = 8_000  # of one document
PERPLEXITY_DOMAIN_CHARACTERS = 60_000

_POOL_DOCUMENTS = 400
_POOL_CHARACTERS = 20_000  # of one document
_FAR_CHARACTERS = 1_000  # between a question and a wrong answer from the same document
_MIN_WORD_SHARE = 0.4  # letters and digits among the characters of an answer
_MAX_PROBES = 200


class Span(NamedTuple):
    """A stretch of a pooled document: its context, and the text that follows, both cut at white space."""

    document: int
    start: int
    context: str
    choice: str


@dataclass
class HeldOutPool:
    """Some held-out documents of one domain, chosen by hash: a fixed amount of memory for any amount of text."""

    _heap: list[tuple[int, Document]] = field(default_factory=list)

    def add(self, document: Document) -> None:
        """Takes the document in if its hash is among the lowest."""
        entry = (-document_hash(document, "task/"), document._replace(text=document.text[:_POOL_CHARACTERS]))
        if len(self._heap) < _POOL_DOCUMENTS:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    @property
    def documents(self) -> list[Document]:
        """The documents in the order of their hashes."""
        return [document for _, document in sorted(self._heap, reverse=True)]


def write_heldout_tasks(folder: Path, pools: dict[str, HeldOutPool], questions_per_domain: int) -> dict[str, int]:
    """Writes `heldout_continuation.jsonl` and `heldout_perplexity_<domain>.jsonl` in `folder`.

    A file is only written if it has a row.

    Returns:
        The number of questions of each domain.
    """
    folder.mkdir(parents=True, exist_ok=True)
    questions: list[dict[str, Any]] = []
    counts = {}
    for domain, pool in pools.items():
        rows = make_questions(pool.documents, questions_per_domain)
        counts[domain] = len(rows)
        questions += rows
        _write_rows(folder / f"heldout_perplexity_{domain}.jsonl", make_perplexity_rows(pool.documents))
    _write_rows(folder / "heldout_continuation.jsonl", questions)
    return counts


def make_questions(documents: list[Document], count: int) -> list[dict[str, Any]]:
    """Up to `count` questions over the documents of one domain, which text comes next.

    The right choice and the wrong ones are cut by the same rule; wrong ones come from other documents, or, if there
    are fewer than four documents, also from far away in the same one. The right answer takes each place in turn.

    Returns:
        Rows of domain, id, context, choices (4 texts, each beginning with white space) and answer (0 to 3).
    """
    spans = list(_spans_in_turn(documents))
    questions: list[dict[str, Any]] = []
    for span in spans:
        if len(questions) == count:
            break
        document = documents[span.document]
        choices = _wrong_choices(span, spans, document, same_document=len(documents) < NUM_CHOICES)
        if len(choices) == NUM_CHOICES - 1:
            answer = len(questions) % NUM_CHOICES
            choices.insert(answer, span.choice)
            row = {"domain": document.domain, "id": document.id, "context": span.context}
            questions.append({**row, "choices": choices, "answer": answer})
    return questions


def make_perplexity_rows(documents: list[Document]) -> list[dict[str, str]]:
    """Rows of id and text: documents cut to 8,000 characters, up to 60,000 together (at least one)."""
    rows: list[dict[str, str]] = []
    total = 0
    for document in documents:
        text = document.text[:PERPLEXITY_CHARACTERS]
        if rows and total + len(text) > PERPLEXITY_DOMAIN_CHARACTERS:
            continue
        rows.append({"id": document.id, "text": text})
        total += len(text)
    return rows


def _spans_in_turn(documents: list[Document]) -> Iterator[Span]:
    """Spans that do not overlap: one of every document, then a second one of every document, and so on."""
    queues = [_shuffled(document, list(_spans(n, document.text))) for n, document in enumerate(documents)]
    for turn in range(max(map(len, queues), default=0)):
        yield from (queue[turn] for queue in queues if turn < len(queue))


def _shuffled(document: Document, spans: list[Span]) -> list[Span]:
    return sorted(spans, key=lambda span: document_hash(document, f"span/{span.start}/"))


def _spans(number: int, text: str) -> Iterator[Span]:
    """All usable spans of a text, one after the other; each choice begins and ends at white space."""
    word_ends = re.compile(r"(?<=\S)(?=\s)")
    start = 0
    while True:
        cut = word_ends.search(text, start + CONTEXT_CHARACTERS)
        end = cut and word_ends.search(text, cut.start() + CHOICE_CHARACTERS)
        if not end:
            return
        choice = text[cut.start() : end.start()]
        if _is_worded(choice):
            yield Span(number, start, text[start : cut.start()].lstrip(), choice)
        start = end.start()


def _is_worded(choice: str) -> bool:
    """Whether a choice is mostly words and about as long as asked; one unbroken line of data would run on."""
    words = sum(character.isalnum() for character in choice)
    return words >= _MIN_WORD_SHARE * len(choice) and len(choice) <= 2 * CHOICE_CHARACTERS


def _wrong_choices(span: Span, spans: list[Span], document: Document, same_document: bool) -> list[str]:
    """Three choices of other spans, different from each other and from the right one, or fewer if they run out."""
    taken = {" ".join(span.choice.split())}
    wrong: list[str] = []
    for probe in range(_MAX_PROBES):
        other = spans[document_hash(document, f"wrong/{span.start}/{probe}/") % len(spans)]
        if other.document == span.document:
            far = abs(other.start - span.start) >= _FAR_CHARACTERS
            if not (same_document and far):
                continue
        words = " ".join(other.choice.split())
        if words not in taken:
            taken.add(words)
            wrong.append(other.choice)
            if len(wrong) == NUM_CHOICES - 1:
                break
    return wrong


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    if rows:
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

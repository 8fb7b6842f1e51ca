"""Which documents are held out for validation: a rule of their hashes, whatever the order or the other documents."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from lightning_polycom.data.sources import Document

_HASH_RANGE = 2**64
SAMPLE_CHARACTERS = 1_000_000
"""At most this much of any one document goes into the tokenizer's sample."""


@dataclass
class DomainSurvey:
    """What one pass over a domain leaves: counts, and the document with the lowest hash."""

    num_documents: int = 0
    num_characters: int = 0
    num_sample_characters: int = 0
    lowest: int = _HASH_RANGE
    lowest_text: int = 0
    below_fraction: int = 0
    num_dropped: int = 0


@dataclass
class HoldOut:
    """Decides, for every document, between train, validation and dropping it.

    A document is held out if the hash of its domain and id, as a fraction of the hash's range, lies below the
    domain's threshold. That is the validation fraction, except that a domain with two documents or more holds out at
    least the one with the lowest hash, and that a domain with one document holds out nothing. A document that would be
    trained on but has the text of a held-out one is dropped.
    """

    fraction: float
    domains: dict[str, DomainSurvey] = field(default_factory=dict)
    _thresholds: dict[str, int] = field(default_factory=dict)
    _held_out_texts: set[int] = field(default_factory=set)

    @classmethod
    def survey(cls, documents: Iterable[Document], fraction: float) -> "HoldOut":
        """Reads all documents once; keeps counts, and a hash of every held-out text."""
        rule = cls(fraction)
        below = int(fraction * _HASH_RANGE)
        texts: dict[str, set[int]] = {}
        for document in documents:
            survey = rule.domains.setdefault(document.domain, DomainSurvey())
            key, text = document_hash(document), _hash(document.text)
            survey.num_documents += 1
            survey.num_characters += len(document.text)
            survey.num_sample_characters += min(len(document.text), SAMPLE_CHARACTERS)
            if key < survey.lowest:
                survey.lowest, survey.lowest_text = key, text
            if key < below:
                survey.below_fraction += 1
                texts.setdefault(document.domain, set()).add(text)
        for domain, survey in rule.domains.items():
            rule._close(domain, survey, below, texts.get(domain, set()))
        return rule

    def split(self, document: Document) -> str | None:
        """`validation`, `train`, or None for a document whose text is held out elsewhere."""
        if document_hash(document) < self._thresholds[document.domain]:
            return "validation"
        return None if _hash(document.text) in self._held_out_texts else "train"

    def _close(self, domain: str, survey: DomainSurvey, below: int, texts: set[int]) -> None:
        """Fixes the threshold of a domain once all of its documents are known."""
        threshold = below
        if survey.num_documents == 1 or self.fraction == 0:
            threshold, texts = 0, set()
        elif not survey.below_fraction:
            threshold, texts = survey.lowest + 1, {survey.lowest_text}
        self._thresholds[domain] = threshold
        self._held_out_texts |= texts


def document_hash(document: Document, purpose: str = "") -> int:
    """A 64-bit hash of a document's domain and id, another one for each purpose."""
    return _hash(f"{purpose}{document.domain}/{document.id}")


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

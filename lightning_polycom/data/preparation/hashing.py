"""Hashes by which documents are chosen and compared."""

import hashlib

from lightning_polycom.data.sources import Document

HASH_RANGE = 2**64


def document_hash(document: Document, purpose: str = "") -> int:
    """A 64-bit hash of a document's domain and id, another one for each purpose."""
    digest = hashlib.sha256(f"{purpose}{document.domain}/{document.id}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def text_hash(text: bytes) -> tuple[int, int]:
    """128 bits of the SHA-256 of a text in UTF-8: equal for equal texts, and for no two others in practice."""
    digest = hashlib.sha256(text).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:16], "big")

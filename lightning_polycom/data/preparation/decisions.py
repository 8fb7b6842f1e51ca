"""Which documents are trained on, held out or left out, decided from the records of the survey.

A document is held out if the hash of its domain and id, as a fraction of the hash's range, lies below the domain's
threshold. That is the validation fraction, except that a domain with two documents or more holds out at least the one
with the lowest hash, and that a domain with one document holds out nothing. A document that would be trained on but
has the text of a held-out one is left out. So the side of a document follows from its id, whatever the order or the
other documents.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lightning_polycom.data.manifest import DocumentCounts
from lightning_polycom.data.preparation.copies import find_copies
from lightning_polycom.data.preparation.hashing import HASH_RANGE
from lightning_polycom.data.preparation.survey import RECORD

TRAIN, VALIDATION, COPY_OF_HELD_OUT, DUPLICATE = range(4)

_BLOCK = 1 << 20  # records at a time


@dataclass
class Decisions:
    """A code for every document, in one file in the order of all documents, and counts of each domain."""

    path: Path
    domains: dict[str, DocumentCounts] = field(default_factory=dict)

    def of(self, first: int, count: int) -> np.ndarray:
        """The codes of documents [first, first + count): uint8 (count,)."""
        return read_codes(self.path, first, count)


def read_codes(path: Path, first: int, count: int) -> np.ndarray:
    """The codes of documents [first, first + count) in the file of the decisions: uint8 (count,)."""
    return np.fromfile(path, np.uint8, count, offset=first)


def decide(records: list[tuple[str, Path]], fraction: float, drop_duplicates: bool, folder: Path) -> Decisions:
    """Decides for the documents of all units, given as (domain, file of records), in order.

    `folder` takes the codes and what is too much for memory. Memory does not grow with the number of documents.
    """
    folder.mkdir(parents=True, exist_ok=True)
    decisions = Decisions(folder / "codes")
    thresholds = _thresholds(records, fraction, decisions.domains)
    with decisions.path.open("wb") as file:
        for domain, path in records:
            for block in _blocks(path):
                (block["key"] < thresholds[domain]).astype(np.uint8).tofile(file)  # TRAIN is 0, VALIDATION is 1
    _decide_copies(records, decisions, drop_duplicates, folder)
    return decisions


def _thresholds(records: list[tuple[str, Path]], fraction: float, counts: dict[str, DocumentCounts]) -> dict[str, int]:
    """The threshold of each domain, as a Python integer below 2**64; also counts the domains' documents."""
    lowest: dict[str, int] = {}
    for domain, path in records:
        counted = counts.setdefault(domain, DocumentCounts())
        for block in _blocks(path):
            counted.num_documents += len(block)
            lowest[domain] = min(lowest.get(domain, HASH_RANGE), int(block["key"].min()))
    below = int(fraction * HASH_RANGE)
    thresholds = {}
    for domain, counted in counts.items():
        nothing = counted.num_documents < 2 or fraction == 0
        thresholds[domain] = 0 if nothing else max(below, lowest[domain] + 1)
    return thresholds


def _decide_copies(records: list[tuple[str, Path]], decisions: Decisions, drop: bool, folder: Path) -> None:
    """Changes the codes of documents whose text is another one's too."""
    bounds = np.cumsum([0, *(path.stat().st_size // RECORD.itemsize for _, path in records)])
    if bounds[-1] == 0:
        return
    codes = np.memmap(decisions.path, np.uint8, mode="r+")
    domains, numbers = list(decisions.domains.values()), {name: n for n, name in enumerate(decisions.domains)}
    domains_of_units = np.array([numbers[domain] for domain, _ in records])
    for group in find_copies(
        (block["text"] for _, path in records for block in _blocks(path)), int(bounds[-1]), folder
    ):
        held_out = codes[group.documents] == VALIDATION
        copies = ~held_out & group.any_of(held_out)
        dropped = (group.repeats(held_out) | group.repeats(~held_out & ~copies)) & drop
        codes[group.documents[dropped]] = DUPLICATE
        codes[group.documents[copies]] = COPY_OF_HELD_OUT
        owners = domains_of_units[np.searchsorted(bounds, group.documents, side="right") - 1]
        for name, marked in (
            ("num_duplicates", group.repeats()),
            ("num_copies_of_held_out", copies),
            ("num_dropped_duplicates", dropped),
        ):
            counts = np.bincount(owners[marked], minlength=len(domains))
            for domain, count in zip(domains, counts.tolist(), strict=True):
                setattr(domain, name, getattr(domain, name) + count)
    codes.flush()


def _blocks(path: Path) -> Iterator[np.ndarray]:
    """The records of a file, a block at a time."""
    with path.open("rb") as file:
        while len(block := np.fromfile(file, RECORD, _BLOCK)):
            yield block

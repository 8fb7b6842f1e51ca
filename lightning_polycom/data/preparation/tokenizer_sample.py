"""A tokenizer of the text's own: trained on about 20 million characters of the training documents, chosen by hash."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lightning_polycom.data.preparation.config import PrepareConfig
from lightning_polycom.data.preparation.decisions import TRAIN, Decisions
from lightning_polycom.data.preparation.hashing import HASH_RANGE, document_hash
from lightning_polycom.data.preparation.progress import Totals
from lightning_polycom.data.preparation.survey import SAMPLE_CHARACTERS
from lightning_polycom.data.preparation.workers import Workers, report
from lightning_polycom.data.sources import Columns, Unit, read_documents
from lightning_polycom.data.tokenizer import Tokenizer

if TYPE_CHECKING:
    from lightning_polycom.data.preparation.build import SurveyedUnit

_CHARACTERS = 20_000_000


class SampleTask(NamedTuple):
    """A unit to take the documents from whose hash lies below `below`, and the number of its first document."""

    unit: Unit
    columns: Columns
    first_document: int
    num_documents: int
    decisions: Decisions
    below: int


def train_tokenizer(
    config: PrepareConfig, units: list["SurveyedUnit"], decisions: Decisions, workers: Workers, folder: Path
) -> Tokenizer:
    """The tokenizer of these documents; if an earlier run has trained it, it is read from `folder`.

    Raises:
        InputError: a vocabulary smaller than the bytes, or larger than the text gives.
    """
    decisive = [
        config.vocab_size,
        config.validation_fraction,
        config.drop_duplicates,
        [unit.unit.key for unit in units],
    ]
    path = folder / f"tokenizer-{hashlib.sha256(json.dumps(decisive).encode()).hexdigest()}.json"
    if path.exists():
        return Tokenizer.load(path)
    total = sum(survey.num_sample_characters for _, survey, _ in units)
    below = int(min(1.0, _CHARACTERS / total) * HASH_RANGE)
    tasks = [
        SampleTask(unit, config.columns, first, survey.num_documents, decisions, below) for unit, survey, first in units
    ]
    totals = Totals(sum(s.num_documents for _, s, _ in units), sum(s.num_bytes for _, s, _ in units))
    # Reading is some fifty times as fast as encoding, so more text has to be there before processes are worth it.
    texts = workers.run(sample_texts, tasks, "choosing text for the tokenizer", totals.num_bytes // 10, totals)
    tokenizer = Tokenizer.train((text for part in texts for text in part), config.vocab_size)
    tokenizer.save(path)
    return tokenizer


def sample_texts(task: SampleTask) -> list[str]:
    """The beginnings of the unit's training documents that the hash chooses."""
    chosen = []
    codes = task.decisions.of(task.first_document, task.num_documents)
    for (_, document), code in zip(read_documents(task.unit, task.columns), codes, strict=False):
        if code == TRAIN and document_hash(document, "tokenizer/") < task.below:
            chosen.append(document.text[:SAMPLE_CHARACTERS])
        report(1, len(document.text.encode()))
    return chosen

"""The first reading of a unit: hashes of its documents, counts, and where it can be cut into segments.

A segment is the piece of work that is finished or not: consecutive documents of a unit, about 8 MB of text. Its
bounds follow from the text alone.
"""

import json
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lightning_polycom.atomic import atomic_path, write_json
from lightning_polycom.data.preparation.hashing import document_hash, text_hash
from lightning_polycom.data.preparation.workers import report
from lightning_polycom.data.sources import Columns, Position, Unit, read_documents

SEGMENT_BYTES = 8 << 20
SAMPLE_CHARACTERS = 1_000_000
"""At most this much of any one document goes into the tokenizer's sample."""

RECORD = np.dtype([("key", "<u8"), ("text", "<u8", 2)])
"""What is kept of every document: the hash of its domain and id, and that of its text."""

_REPORT_DOCUMENTS = 256


class Segment(NamedTuple):
    """Consecutive documents of a unit: where the first one begins, its number, how many they are, their bytes."""

    position: Position
    first: int
    num_documents: int
    num_bytes: int


@dataclass
class UnitSurvey:
    """Counts over a unit, and its segments."""

    num_documents: int = 0
    num_bytes: int = 0
    num_sample_characters: int = 0
    segments: list[Segment] = field(default_factory=list)

    @classmethod
    def load(cls, folder: Path, unit: Unit) -> "UnitSurvey":
        """The survey of a unit that `survey_unit` wrote."""
        value = json.loads((folder / f"{unit.key}.json").read_bytes())
        segments = [Segment(Position(*position), *counts) for position, *counts in value.pop("segments")]
        return cls(**value, segments=segments)


class SurveyTask(NamedTuple):
    """A unit to survey, and the folder for what comes out."""

    unit: Unit
    columns: Columns
    folder: Path

    @property
    def is_done(self) -> bool:
        """Whether an earlier run has done it."""
        return (self.folder / f"{self.unit.key}.json").exists()


def survey_unit(task: SurveyTask) -> None:
    """Reads a unit once and writes its survey, and a record for each document, to `folder`; memory is constant.

    Raises:
        InputError: whatever is wrong with the unit's files.
    """
    survey = UnitSurvey()
    with atomic_path(records_path(task.folder, task.unit)) as temporary, temporary.open("wb") as file:
        for block in _records(task, survey):
            block.tofile(file)
    # Written last: its existence says that the records are whole.
    write_json(task.folder / f"{task.unit.key}.json", asdict(survey))


def records_path(folder: Path, unit: Unit) -> Path:
    """Where the records of a unit lie."""
    return folder / f"{unit.key}.records"


def _records(task: SurveyTask, survey: UnitSurvey) -> Iterator[array]:
    """Blocks of records as integers; `survey` is filled on the way."""
    block, reported = array("Q"), 0
    for position, document in read_documents(task.unit, task.columns):
        text = document.text.encode()
        _place(survey, position, len(text))
        survey.num_sample_characters += min(len(document.text), SAMPLE_CHARACTERS)
        block.extend((document_hash(document), *text_hash(text)))
        if len(block) >= 3 * _REPORT_DOCUMENTS:
            yield block
            report(_REPORT_DOCUMENTS, survey.num_bytes - reported)
            block, reported = array("Q"), survey.num_bytes
    yield block
    report(len(block) // 3, survey.num_bytes - reported)


def _place(survey: UnitSurvey, position: Position, num_bytes: int) -> None:
    """Adds a document to the last segment, or begins a new one if that is full."""
    segments = survey.segments
    if not segments or segments[-1].num_bytes >= SEGMENT_BYTES:
        segments.append(Segment(position, survey.num_documents, 1, num_bytes))
    else:
        last = segments[-1]
        segments[-1] = last._replace(num_documents=last.num_documents + 1, num_bytes=last.num_bytes + num_bytes)
    survey.num_documents += 1
    survey.num_bytes += num_bytes

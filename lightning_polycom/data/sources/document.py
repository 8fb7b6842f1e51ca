"""What sources give: texts with an id and a domain, and where in a unit each of them stands."""

from typing import NamedTuple


class Document(NamedTuple):
    """One text with its domain and an id that is unique in its source."""

    domain: str
    id: str
    text: str


class Position(NamedTuple):
    """Where a document begins in its unit, so that reading can start there.

    `file` counts the unit's files, `row` the rows of that file before the document, `offset` its uncompressed bytes
    before it (0 where the format has no use for it).
    """

    file: int = 0
    row: int = 0
    offset: int = 0


START = Position()

"""Whether shards of other tools say where documents end, which `separate_documents` needs.

An end-of-text token ends what stands before it. So files that put one before each document (llm.c, modded-nanogpt)
need no rule of their own: behind the first token they are the same stream as files that put it after each document.
"""

from collections.abc import Mapping
from itertools import pairwise

from lightning_polycom.data.formats import ForeignShards
from lightning_polycom.data.shards import TokenShards
from lightning_polycom.errors import InputError

_MOST_FILES = 32


def require_document_ends(split: str, domains: Mapping[str, TokenShards | ForeignShards], eos: int) -> None:
    """Refuses files in which no end-of-text token is found, at the ends of 32 of them or in 64 samples of 1,024 ids.

    Raises:
        InputError: none found in a domain.
    """
    for domain, shards in domains.items():
        if isinstance(shards, ForeignShards) and not _has_ends(shards, eos):
            raise InputError(
                f"data.separate_documents: found no end-of-text id {eos} in samples of {split} domain '{domain}' "
                f"({shards.files[0]}); give the tokenizer and eos_token it was made with, or set it to false"
            )


def require_ends_between(domains: Mapping[str, TokenShards | ForeignShards], eos: int) -> None:
    """Refuses domains read one behind the other where a document would go on from one into the next.

    Raises:
        InputError: no end-of-text token between two domains.
    """
    for before, after in pairwise(domains):
        last = int(domains[before].read(domains[before].num_tokens - 1, 1)[0])
        if eos not in (last, int(domains[after].read(0, 1)[0])):
            raise InputError(
                f"data.separate_documents: no end-of-text id {eos} between the end of '{before}' and the beginning of "
                f"'{after}'; give data.mixture, whose samples never cross domains, or set it to false"
            )


def _has_ends(shards: ForeignShards, eos: int) -> bool:
    starts = [shards.file_start(file) for file in range(min(_MOST_FILES, len(shards.files)))]
    places = [place for start in starts for place in (start - 1, start) if place >= 0]
    return any(int(shards.read(place, 1)[0]) == eos for place in places) or any(
        bool((ids == eos).any()) for ids in shards.samples()
    )

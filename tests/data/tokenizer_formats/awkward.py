"""Texts in which tokenizers tend to differ, and the comparison of two of them."""

import gzip
import json
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import strategies as st

Encode = Callable[[str], list[int]]

FRAGMENTS = [
    *" aab\n\t\r=-_/<>0127.,'\u2581\x00\x7f",
    *("  ", "\r\n", "\n\n", "    ", "12345", "'ll", "'S", "\u017f", "don't", "the", " The", "HELLO", "camelCase"),
    *(
        "é",
        "日本",
        "語",
        "한국어",
        "हिन्दी",
        "ไทย",
        "العربية",
        "🙂",
        "👨\u200d👩\u200d👧",
        "❤\ufe0f",
        "\u200b",
        "\u3000",
        "\u0085",
        "\u2028",
    ),
    *(
        "<s>",
        "</s>",
        "<unk>",
        "<pad>",
        "<0x0A>",
        "<|endoftext|>",
        "<|im_end|>",
        "<bos>",
        "\ufeff",
        "\ufffd",
        "\U0010ffff",
    ),
]


def awkward_texts(fragments: list[str] = FRAGMENTS) -> st.SearchStrategy[str]:
    """Texts of fragments in any order."""
    return st.lists(st.sampled_from(fragments), max_size=30).map("".join)


def runs() -> st.SearchStrategy[str]:
    """Texts of long runs of one character."""
    run = st.tuples(st.sampled_from(" =-ae\n\t.\u2581"), st.integers(1, 90)).map(lambda pair: pair[0] * pair[1])
    return st.lists(run, min_size=1, max_size=4).map("".join)


def any_texts() -> st.SearchStrategy[str]:
    """Texts of any characters but surrogates, which are no characters of a text."""
    return st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


def every_character(step: int = 16) -> Iterator[str]:
    """Short texts in which assigned characters stand after a letter, before one, and after a space.

    Of those that have no case and no other property of their own (Lo: ideographs, syllables), one in `step` is taken.
    """
    assigned = [
        character
        for character in map(chr, range(0x110000))
        if (category := unicodedata.category(character)) not in ("Cn", "Co", "Cs")
        and (category != "Lo" or ord(character) % step == 0)
    ]
    for start in range(0, len(assigned), 64):
        yield "".join(f"a{character}b1{character} {character}" for character in assigned[start : start + 64])


def corpus_texts(shared: Path, characters: int | None = None) -> Iterator[tuple[str, list[str]]]:
    """Name and documents of every file of the corpora, of each at most about so many characters."""
    for file in sorted((shared / "corpora").glob("*/*.jsonl.gz")):
        texts, total = [], 0
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                texts.append(json.loads(line)["text"])
                total += len(texts[-1])
                if characters is not None and total >= characters:
                    break
        yield f"{file.parent.name}/{file.name}", texts


def assert_same_ids(texts: list[str], found: list[list[int]], expected: list[list[int]], name: str) -> None:
    """Fails with the first text whose ids differ, and where."""
    for text, ids, wanted in zip(texts, found, expected, strict=True):
        if ids != wanted:
            place = next(
                (i for i, (a, b) in enumerate(zip(ids, wanted, strict=False)) if a != b), min(len(ids), len(wanted))
            )
            raise AssertionError(
                f"{name}: id {place} of {text[:60]!r} differs, {ids[place : place + 5]}, {wanted[place : place + 5]}"
            )

import pytest
from tiny_language_model import ByteTokenizer, SharedTokenizer

from lightning_polycom.evaluation.incremental_text import IncrementalText

TEXT = "naïve café, 日本語 and 🙂👍🏽 at the end é"


def pieces(decode, ids: list[int]) -> list[str]:
    stream = IncrementalText(decode)
    return [*(stream.add(token) for token in ids), stream.finish()]


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_pieces_make_the_whole_text_also_if_it_ends_inside_a_character(cut):
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(TEXT + "🙂")[: -cut or None]
    found = pieces(tokenizer.decode, ids)
    assert "".join(found) == tokenizer.decode(ids)
    assert not any("\ufffd" in piece for piece in found[:-1])


def test_real_tokens(shared):
    tokenizer = SharedTokenizer(shared)
    assert "".join(pieces(tokenizer.decode, tokenizer.encode(TEXT))) == TEXT


def test_each_token_costs_as_much_as_the_first():
    tokenizer, decoded = ByteTokenizer(), []

    def decode(ids: list[int]) -> str:
        decoded.append(len(ids))
        return tokenizer.decode(ids)

    pieces(decode, tokenizer.encode("a" * 500))
    assert max(decoded) <= 3
    pieces(decode, [200] * 500)  # bytes that never become a character
    assert max(decoded) <= 20


def test_a_space_that_a_decoder_strips_at_the_start_is_kept_inside():
    words = ["▁to", "▁be", "▁or"]
    assert pieces(lambda ids: "".join(words[i] for i in ids).replace("▁", " ").lstrip(), [0, 1, 2]) == [
        "to",
        " be",
        " or",
        "",
    ]

"""Compares a converted tokenizer with the library that it was converted from."""

from collections.abc import Callable

from lightning_polycom.errors import InputError

AWKWARD_TEXTS = (
    "",
    " ",
    "  two  spaces ",
    "\n\n\t x\r\n\r\n",
    "trailing \n \n  \t",
    "naïve café, I'LL we're 'S \u017f",
    "e\u0301 n\u0303 \u1112\u1161\u11ab",
    "日本語のテキスト、中文字符 한국어",
    "हिन्दी العربية ไทย עברית",
    "\U0001f642\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f",
    "\x00\x7f\u0085\u00a0\u200b\ufeff\ufffd",
    "1234567 3.14159 1,000,000 ٣٤٥ ²",
    "def f(x):\n    return x + 1  # comment\n\n\n        y",
    "a" * 100 + "aa b" + "ab" * 33,
    " " * 37 + "x" + "=" * 41 + "\n" * 5 + "-" * 3,
    "<s>text</s><unk><pad><0x0A><|endoftext|><|im_end|><bos><eos> ▁ ▁▁x",
)
"""Short texts in which tokenizers tend to differ: white space, runs, digits, scripts, marks, special tokens."""


def check_agreement(serialized: bytes, encode: Callable[[str], list[int]], name: str) -> None:
    """Encodes `AWKWARD_TEXTS` with the tokenizer.json and with `encode`, the original.

    Raises:
        InputError: an id differs; names the tokenizer and the text.
    """
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_buffer(serialized)
    backend.encode_special_tokens = True
    for text in AWKWARD_TEXTS:
        expected, found = encode(text), backend.encode(text, add_special_tokens=False).ids
        if found != expected:
            raise InputError(
                f"tokenizer: {name} has no exact conversion: {text[:40]!r} has other ids than in the library "
                "that it is of; use another tokenizer"
            )

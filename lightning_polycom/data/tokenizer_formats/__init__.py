"""The kinds of tokenizer that can be used, each read as one JSON file of the tokenizers library."""

import os
from pathlib import Path

from lightning_polycom.data.tokenizer_formats.file import FoundTokenizer, read_file
from lightning_polycom.data.tokenizer_formats.folder import read_folder
from lightning_polycom.data.tokenizer_formats.hub import hub_folder, is_hub_name
from lightning_polycom.data.tokenizer_formats.tiktoken_encoding import PREFIX, read_tiktoken
from lightning_polycom.errors import InputError

__all__ = ["FoundTokenizer", "find_tokenizer"]


def find_tokenizer(name: str | os.PathLike) -> FoundTokenizer:
    """The tokenizer of a file, of a folder, of `tiktoken:<encoding>`, or of a name on the hub, in this order.

    Raises:
        InputError: none of these, or one that cannot be read or converted.
    """
    text = os.fspath(name)
    path = Path(text)
    if path.is_file():
        return read_file(path)
    if path.is_dir():
        return read_folder(path)
    if text.startswith(PREFIX):
        return FoundTokenizer(read_tiktoken(text))
    if is_hub_name(text):
        return read_folder(hub_folder(text))
    raise InputError(
        f"tokenizer: {path} is no file or folder; give a tokenizer.json, a folder with one, a SentencePiece model, "
        f"a name on the hub or {PREFIX}NAME, or leave it out to train one"
    )

"""tiktoken's cache, made of the real vocabularies at hand."""

import base64
import hashlib
import json
from pathlib import Path

import pytest

from lightning_polycom.data.tokenizer_formats.byte_level import byte_characters

SITE = "https://openaipublic.blob.core.windows.net"


def _ranks(vocab: dict[str, int], size: int) -> list[tuple[bytes, int]]:
    bytes_of = {character: byte for byte, character in enumerate(byte_characters())}
    tokens = sorted((id_, token) for token, id_ in vocab.items() if id_ < size)
    return [(bytes(bytes_of[character] for character in token), id_) for id_, token in tokens]


def _file(ranks: list[tuple[bytes, int]]) -> bytes:
    return b"".join(base64.b64encode(token) + b" %d\n" % id_ for token, id_ in ranks)


@pytest.fixture(scope="session")
def tiktoken_files(shared, tmp_path_factory) -> Path:
    """A folder with the files that tiktoken would fetch for gpt2, r50k_base, p50k_base and cl100k_base.

    GPT-2's are real ones, and the others follow from them and from a tokenizer.json of the same vocabulary; tiktoken
    itself compares their SHA-256 with the ones that it expects.
    """
    folder, tokenizers = tmp_path_factory.mktemp("tiktoken"), shared / "tokenizers"
    gpt2 = _ranks(json.loads((tokenizers / "gpt2" / "encoder.json").read_bytes()), 50_256)
    cl100k = json.loads((tokenizers / "allenai_dolma2.json").read_bytes())["model"]["vocab"]
    files = {
        "gpt-2/encodings/main/encoder.json": (tokenizers / "gpt2" / "encoder.json").read_bytes(),
        "gpt-2/encodings/main/vocab.bpe": (tokenizers / "gpt2" / "vocab.bpe").read_bytes(),
        "encodings/r50k_base.tiktoken": _file(gpt2),
        "encodings/p50k_base.tiktoken": _file([*gpt2, *((b" " * number, 50_255 + number) for number in range(2, 26))]),
        "encodings/cl100k_base.tiktoken": _file(_ranks(cl100k, 100_256)),
    }
    for path, content in files.items():
        (folder / hashlib.sha1(f"{SITE}/{path}".encode()).hexdigest()).write_bytes(content)
    return folder


@pytest.fixture
def tiktoken_cache(tiktoken_files, monkeypatch) -> Path:
    """The folder, given to tiktoken as its cache."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tiktoken_files))
    return tiktoken_files

import re
import sys

import pytest

tiktoken = pytest.importorskip("tiktoken", reason="compares with the tiktoken library")

from awkward import any_texts, assert_same_ids, awkward_texts, corpus_texts, every_character, runs
from hypothesis import HealthCheck, given, settings

from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.data.tokenizer_formats import tiktoken_encoding
from lightning_polycom.data.tokenizer_formats.special_tokens import dump_specification
from lightning_polycom.errors import InputError

SIZES = {"gpt2": 50_257, "p50k_base": 50_281, "cl100k_base": 100_277}
"""The largest id and one more: cl100k_base lacks 15 ids below its last."""


def same_ids_everywhere(ours, original, shared, characters=100_000, step=16):
    for file, texts in corpus_texts(shared, characters):
        assert_same_ids(texts, ours.encode_batch(texts), original.encode_ordinary_batch(texts, num_threads=1), file)
    texts = list(every_character(step))
    assert_same_ids(texts, ours.encode_batch(texts), original.encode_ordinary_batch(texts, num_threads=1), "characters")


def same_ids_of_any_text(ours, original):
    @settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
    @given(awkward_texts() | runs() | any_texts())
    def check(text):
        assert ours.encode(text) == original.encode_ordinary(text)
        assert ours.decode(ours.encode(text)) == text

    check()


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.slow
def test_ids_are_the_original_ones(shared, tiktoken_cache, name):
    ours, original = Tokenizer.load(f"tiktoken:{name}"), tiktoken.get_encoding(name)
    assert ours.vocab_size == original.n_vocab == SIZES[name]
    assert ours.eos_token_id == original.eot_token
    same_ids_everywhere(ours, original, shared)
    same_ids_of_any_text(ours, original)
    tokens = [original.decode([id_]) for id_ in range(0, 50_000, 25)]
    assert_same_ids(tokens, ours.encode_batch(tokens), original.encode_ordinary_batch(tokens, num_threads=1), name)


@pytest.mark.long
@pytest.mark.parametrize("name", SIZES)
def test_ids_are_the_original_ones_over_whole_domains(shared, tiktoken_cache, name):
    ours, original = Tokenizer.load(f"tiktoken:{name}"), tiktoken.get_encoding(name)
    same_ids_everywhere(ours, original, shared, characters=None, step=1)


@pytest.fixture
def o200k_pattern(monkeypatch) -> str:
    """The pattern of o200k_base, whose vocabulary is not at hand."""
    from tiktoken_ext import openai_public

    with monkeypatch.context() as patched:  # no longer: another vocabulary that is loaded then would be empty too
        patched.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: {})
        return openai_public.o200k_base()["pat_str"]


def test_the_pattern_of_o200k_cuts_as_the_original(shared, tiktoken_cache, o200k_pattern, tmp_path):
    ranks = tiktoken.get_encoding("cl100k_base")._mergeable_ranks
    original = tiktoken.Encoding(
        "mixed", pat_str=o200k_pattern, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 199_999}
    )
    path = tmp_path / "tokenizer.json"
    path.write_bytes(dump_specification(tiktoken_encoding.convert_tiktoken(original)))
    ours = Tokenizer.load(path)
    assert ours.vocab_size == 200_000
    same_ids_everywhere(ours, original, shared)
    same_ids_of_any_text(ours, original)


def test_gpt2_is_the_same_from_its_files(shared, tiktoken_cache):
    from_files, original = Tokenizer.load(shared / "tokenizers" / "gpt2"), tiktoken.get_encoding("gpt2")
    assert (from_files.vocab_size, from_files.eos_token_id) == (50_257, 50_256)
    same_ids_everywhere(from_files, original, shared)


def test_saved_and_loaded_again_it_is_the_same(tiktoken_cache, tmp_path):
    ours = Tokenizer.load("tiktoken:cl100k_base")
    ours.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json", bos_token="<|endofprompt|>")
    assert (again.fingerprint, again.vocab_size, again.eos_token) == (ours.fingerprint, 100_277, "<|endoftext|>")
    assert again.bos_token_id == 100_276


def test_patterns_in_the_other_dialect():
    assert tiktoken_encoding.oniguruma_pattern(r"\p{N}{1,3}+|[^\]$]{2}+|\s++$|\$x+") == (
        r"(?>\p{N}{1,3})|(?>[^\]$]{2})|\s++\z|\$x+"
    )


def one_line(match: str):
    return pytest.raises(InputError, match=rf"\A[^\n]*{match}[^\n]*\Z")


def test_an_unknown_name():
    with one_line(r"no encoding 'cl100k'; it has .*cl100k_base"):
        Tokenizer.load("tiktoken:cl100k")


def test_a_missing_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with one_line(re.escape("install lightning-polycom[tokenizers]")):
        Tokenizer.load("tiktoken:gpt2")


def test_a_file_that_is_not_in_the_cache(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no\nroute")

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("tiktoken.load.read_file", unreachable)
    with one_line(r"tiktoken:o200k_base is not in tiktoken's cache .*no route"):
        Tokenizer.load("tiktoken:o200k_base")


def test_tiktokens_own_files_lack_the_pattern(tiktoken_cache):
    import hashlib

    url = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
    with one_line("not the pattern"):
        Tokenizer.load(tiktoken_cache / hashlib.sha1(url.encode()).hexdigest())


def test_a_conversion_that_differs_is_refused(tiktoken_cache, monkeypatch):
    monkeypatch.setattr(tiktoken_encoding, "oniguruma_pattern", lambda pattern: pattern)
    tiktoken.registry.ENCODINGS.clear()
    with one_line("no exact conversion"):
        Tokenizer.load("tiktoken:cl100k_base")

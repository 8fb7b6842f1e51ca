import gzip
import io
import json
import pickle
import random
import sys
from pathlib import Path

import pytest

sentencepiece = pytest.importorskip("sentencepiece", reason="compares with the sentencepiece library")

from awkward import FRAGMENTS, any_texts, assert_same_ids, awkward_texts, corpus_texts, every_character, runs
from hypothesis import given, settings
from sentencepiece import sentencepiece_model_pb2

from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.data.tokenizer_formats import sentencepiece_proto
from lightning_polycom.errors import InputError

REAL, UNIGRAM = "mistral-v1-sp32k.model", "sentencepiece-test-1k.model"
_loaded: dict[Path, tuple] = {}


def pair(path: Path) -> tuple[Tokenizer, "sentencepiece.SentencePieceProcessor"]:
    """Our tokenizer and the original, loaded once."""
    if path not in _loaded:
        _loaded[path] = Tokenizer.load(path), sentencepiece.SentencePieceProcessor(model_file=str(path))
    return _loaded[path]


@pytest.fixture(scope="module")
def sentences(shared) -> list[str]:
    with gzip.open(shared / "corpora" / "wiki_multilingual" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    return [sentence for text in texts for sentence in text.split("\n") if 0 < len(sentence) < 2000]


@pytest.fixture(scope="module")
def train(sentences, tmp_path_factory):
    """Trains a small model, each setting once."""
    folder = tmp_path_factory.mktemp("models")

    def trained(name: str, **settings) -> Path:
        settings = settings or KINDS[name]
        path = folder / f"{name}.model"
        if not path.exists():
            model = io.BytesIO()
            sentencepiece.SentencePieceTrainer.train(
                **{
                    "sentence_iterator": iter(sentences),
                    "model_writer": model,
                    "vocab_size": 3000,
                    "character_coverage": 0.98,
                    "minloglevel": 2,
                    **settings,
                }
            )
            path.write_bytes(model.getvalue())
        return path

    return trained


KINDS = {
    "bpe-llama": {
        "model_type": "bpe",
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
    },
    "bpe-trims": {"model_type": "bpe", "normalization_rule_name": "identity"},
    "bpe-suffixes": {
        "model_type": "bpe",
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": False,
        "split_by_whitespace": False,
    },
    "bpe-gemma": {
        "model_type": "bpe",
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": False,
        "byte_fallback": True,
        "user_defined_symbols": ["<mask>", "\n", "▁▁", "▁▁▁▁"],
    },
}


def test_the_mistral_model_gives_the_original_ids_over_all_domains(shared):
    ours, original = pair(shared / "tokenizers" / REAL)
    for file, texts in corpus_texts(shared, characters=150_000):
        assert_same_ids(texts, ours.encode_batch(texts), original.encode(texts), file)
    texts = list(every_character())
    assert_same_ids(texts, ours.encode_batch(texts), original.encode(texts), "characters")


@pytest.mark.long
@pytest.mark.parametrize("kind", [REAL, *KINDS])
def test_models_give_the_original_ids_over_whole_domains(shared, train, kind):
    ours, original = pair(train(kind) if kind in KINDS else shared / "tokenizers" / kind)
    for file, texts in corpus_texts(shared):
        assert_same_ids(texts, ours.encode_batch(texts), original.encode(texts), file)
    texts = list(every_character(step=1))
    assert_same_ids(texts, ours.encode_batch(texts), original.encode(texts), "characters")


@pytest.mark.parametrize("kind", KINDS)
def test_trained_models_give_the_original_ids(shared, train, kind):
    ours, original = pair(train(kind))
    for file, texts in corpus_texts(shared, characters=50_000):
        assert_same_ids(texts, ours.encode_batch(texts), original.encode(texts), file)
    assert ours.vocab_size == original.vocab_size()
    assert ours.eos_token_id == original.eos_id()
    assert_same_ids(
        characters := list(every_character()), ours.encode_batch(characters), original.encode(characters), kind
    )


@pytest.mark.parametrize("kind", KINDS)
def test_trained_models_give_the_original_ids_of_any_text(train, kind):
    ours, original = pair(train(kind))

    @settings(deadline=None, max_examples=150)
    @given(awkward_texts([*FRAGMENTS, "<mask>"]) | runs() | any_texts())
    def check(text):
        assert ours.encode(text) == original.encode(text)

    check()


def test_the_mistral_model_gives_the_original_ids_of_any_text(shared):
    ours, original = pair(shared / "tokenizers" / REAL)
    assert (ours.vocab_size, ours.eos_token, ours.eos_token_id) == (32_000, "</s>", 2)

    @settings(deadline=None, max_examples=150)
    @given(awkward_texts() | runs() | any_texts())
    def check(text):
        assert ours.encode(text) == original.encode(text)
        assert ours.decode(ours.encode(text)) == text.replace("\u2581", " ")

    check()


@pytest.mark.parametrize("name", [REAL, UNIGRAM])
def test_fields_are_those_that_the_library_reads(shared, name):
    content = (shared / "tokenizers" / name).read_bytes()
    ours, theirs = sentencepiece_proto.parse_sentencepiece(content, Path(name)), sentencepiece_model_pb2.ModelProto()
    theirs.ParseFromString(content)
    for message, fields in sentencepiece_proto._FIELDS.items():
        for field in fields:
            if message == "SentencePiece":
                assert [getattr(p, field) for p in ours.pieces] == [getattr(p, field) for p in theirs.pieces]
            else:
                spec = {"TrainerSpec": "trainer_spec", "NormalizerSpec": "normalizer_spec"}[message]
                assert getattr(getattr(ours, spec), field) == getattr(getattr(theirs, spec), field)
    empty, default = sentencepiece_proto._model_class()(), sentencepiece_model_pb2.ModelProto()
    assert empty.normalizer_spec.add_dummy_prefix == default.normalizer_spec.add_dummy_prefix is True
    assert empty.trainer_spec.model_type == default.trainer_spec.model_type == 1


def test_saved_and_loaded_again_it_is_the_same(shared, tmp_path):
    ours, _ = pair(shared / "tokenizers" / REAL)
    ours.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    assert (again.fingerprint, again.eos_token) == (ours.fingerprint, ours.eos_token)
    assert Tokenizer.load(shared / "tokenizers" / REAL).fingerprint == ours.fingerprint


def change(path: Path, target: Path, edit) -> Path:
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(path.read_bytes())
    edit(model)
    target.write_bytes(model.SerializeToString())
    return target


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: setattr(m.trainer_spec, "treat_whitespace_as_suffix", True),
        lambda m: setattr(m.normalizer_spec, "escape_whitespaces", False),
        lambda m: setattr(m.pieces[500], "type", 5),  # unused
        lambda m: setattr(m.pieces[500], "type", 4),  # user-defined
        lambda m: setattr(m.pieces[500], "piece", "☃☃"),
        lambda m: setattr(m.pieces[500], "score", m.pieces[501].score),
    ],
)
def test_models_that_no_json_expresses_are_used_through_their_library(train, tmp_path, edit):
    path = change(train("bpe-trims"), tmp_path / "t.model", edit)
    ours, original = Tokenizer.load(path), sentencepiece.SentencePieceProcessor(model_file=str(path))
    assert ours.uses_sentencepiece
    for text in FRAGMENTS:
        assert ours.encode(text) == original.encode(text)


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: setattr(m.pieces[500], "piece", m.pieces[501].piece),
        lambda m: setattr(m.pieces[500], "type", 6),
    ],
)
def test_models_that_the_library_refuses_are_refused(train, tmp_path, edit):
    with pytest.raises(InputError, match="damaged") as caught:
        Tokenizer.load(change(train("bpe-trims"), tmp_path / "t.model", edit))
    assert "\n" not in str(caught.value)


def test_damage_to_a_model_is_one_line_or_another_model(train, tmp_path):
    content, random_ = train("bpe-llama").read_bytes(), random.Random(1)
    refused = 0
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(random_.randint(1, 3)):
            damaged[random_.randrange(6000)] = random_.randrange(256)
        (tmp_path / "t.model").write_bytes(bytes(damaged[: random_.choice([None, random_.randrange(len(content))])]))
        try:
            Tokenizer.load(tmp_path / "t.model")
        except InputError as error:
            refused += 1
            assert "t.model" in str(error) and "\n" not in str(error)
    assert refused > 30


@pytest.mark.parametrize("kind", ["published", "unigram", "nfkc"])
def test_unigram_and_normalising_models_give_the_original_ids(shared, train, tmp_path, kind):
    path = {
        "published": lambda: shared / "tokenizers" / UNIGRAM,
        "unigram": lambda: train("unigram", model_type="unigram"),
        "nfkc": lambda: train("nfkc", model_type="bpe", normalization_rule_name="nfkc"),
    }[kind]()
    ours, original = pair(path)
    assert ours.uses_sentencepiece
    assert (ours.vocab_size, ours.eos_token, ours.eos_token_id) == (original.vocab_size(), "</s>", original.eos_id())
    for file, texts in corpus_texts(shared, characters=50_000):
        assert_same_ids(texts, ours.encode_batch(texts), original.encode(texts), file)
    ours.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json", ours.eos_token)
    assert again.fingerprint == ours.fingerprint
    text = "a text that spells </s> and <unk>"
    assert ours.eos_token_id not in ours.encode(text) and again.encode(text) == original.encode(text)
    ids = [*ours.encode("one"), ours.eos_token_id, *ours.encode("two")]
    assert pickle.loads(pickle.dumps(ours)).decode(ids) == "one</s>two"
    with pytest.raises(InputError, match="bos_token"):
        Tokenizer.load(path, bos_token="<nowhere>")
    assert Tokenizer.load(path, bos_token="<s>").bos_token_id == 1


def test_without_the_library_such_a_model_is_refused_in_one_line(shared, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(InputError, match=r"pip install lightning-polycom\[tokenizers\]"):
        Tokenizer.load(shared / "tokenizers" / UNIGRAM)


def test_the_original_ids_of_a_unigram_model_depend_on_rounding(shared, train):
    """Why unigram models are not converted: in long texts the pieces are not those of the best score."""
    original = sentencepiece.SentencePieceProcessor(model_file=str(train("unigram", model_type="unigram")))
    texts = dict(corpus_texts(shared, characters=400_000))["web/train.jsonl.gz"]
    words = [word for text in texts for word in text.split()]
    alone = [id_ for word in words for id_ in original.encode(word)]
    together = [id_ for text in texts for id_ in original.encode(text)]
    assert len(alone) == pytest.approx(len(together), rel=1e-3)
    assert alone != together


def test_a_model_without_end_of_text_needs_one_named(train, tmp_path):
    path = train("no-eos", model_type="bpe", normalization_rule_name="identity", eos_id=-1)
    with pytest.raises(InputError, match="name its end-of-text token"):
        Tokenizer.load(path)
    named = Tokenizer.load(path, eos_token="<s>")
    assert named.eos_token_id == 1


def test_a_conversion_that_differs_is_refused(shared, monkeypatch):
    """The check at load time sees a wrong order of merges."""
    from lightning_polycom.data.tokenizer_formats import sentencepiece_model

    right = sentencepiece_model.merges_by_priority
    monkeypatch.setattr(sentencepiece_model, "merges_by_priority", lambda priority: right(priority)[::-1])
    with pytest.raises(InputError, match="no exact conversion"):
        Tokenizer.load(shared / "tokenizers" / REAL)


def test_the_library_is_not_needed(shared, monkeypatch):
    from lightning_polycom.data.tokenizer_formats import file

    ours, _ = pair(shared / "tokenizers" / REAL)
    monkeypatch.setattr(file, "find_spec", lambda name: None)
    assert Tokenizer.load(shared / "tokenizers" / REAL).fingerprint == ours.fingerprint

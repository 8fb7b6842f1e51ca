import hashlib
import json

import pytest
from small_corpora import library_documents

from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.errors import InputError

AWKWARD = ["", " ", "\n\n\t x", "naïve café", "日本語 🙂", "\x00\x7f", "a" * 300, "<|endoftext|> in the text", "\r\n"]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [row["text"] for row in library_documents("", 20)]


@pytest.fixture(scope="module")
def trained(texts) -> Tokenizer:
    return Tokenizer.train(texts, 600)


def test_trained_tokenizer_has_the_size_asked_for_and_end_of_text_first(trained):
    assert (trained.vocab_size, trained.eos_token, trained.eos_token_id) == (600, "<|endoftext|>", 0)


def test_trained_tokenizer_gives_back_every_text(trained, texts):
    for text in [*AWKWARD, *texts]:
        ids = trained.encode(text)
        assert trained.decode(ids) == text
        assert all(0 < id_ < 600 for id_ in ids)  # no end of text, not even where the text spells it


def test_training_compresses_and_is_deterministic(trained, texts):
    assert len(trained.encode(texts[0])) < 0.6 * len(texts[0].encode())
    assert Tokenizer.train(texts, 600).fingerprint == trained.fingerprint
    assert Tokenizer.train(texts, 601).fingerprint != trained.fingerprint


def test_batch_equals_one_by_one(trained, texts):
    assert trained.encode_batch([*AWKWARD, *texts[:3]]) == [trained.encode(text) for text in [*AWKWARD, *texts[:3]]]


def test_save_and_load(trained, tmp_path):
    trained.save(tmp_path / "a" / "tokenizer.json")
    data = (tmp_path / "a" / "tokenizer.json").read_bytes()
    loaded = Tokenizer.load(tmp_path / "a" / "tokenizer.json")
    assert trained.fingerprint == loaded.fingerprint == hashlib.sha256(data).hexdigest()
    assert (loaded.vocab_size, loaded.eos_token_id) == (600, 0)
    assert loaded.encode("def main():") == trained.encode("def main():")
    loaded.save(tmp_path / "b.json")
    assert (tmp_path / "b.json").read_bytes() == data


@pytest.mark.parametrize(("vocab_size", "message"), [(256, "at least 257"), (5000, "gives only")])
def test_impossible_vocabularies(vocab_size, message):
    with pytest.raises(InputError, match=message):
        Tokenizer.train(["a small text, a small text"], vocab_size)


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"\xff\xfe", b'{"model": 3}'])
def test_a_file_that_is_no_tokenizer(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"tokenizer\.json") as caught:
        Tokenizer.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"neither", b"\xff\xfe", b"\x0a\x02\x0a\x00"])
def test_a_file_of_no_kind(tmp_path, content):
    (tmp_path / "spm.model").write_bytes(content)
    with pytest.raises(InputError, match=r"spm\.model is no JSON file .* and no SentencePiece model"):
        Tokenizer.load(tmp_path / "spm.model")


def test_a_path_that_is_no_file(tmp_path):
    with pytest.raises(InputError, match=r"tokenizer\.json is no file or folder; give a tokenizer\.json"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_beginning_of_text_only_if_one_is_asked_for(trained, tmp_path):
    trained.save(tmp_path / "t.json")
    assert (trained.bos_token, trained.bos_token_id) == (None, None)
    named = Tokenizer.load(tmp_path / "t.json", bos_token="<|endoftext|>")
    assert (named.bos_token, named.bos_token_id, named.fingerprint) == ("<|endoftext|>", 0, trained.fingerprint)
    assert named.encode("def") == trained.encode("def")
    with pytest.raises(InputError, match=r"bos_token: .*t\.json has no token '<s>'"):
        Tokenizer.load(tmp_path / "t.json", bos_token="<s>")


def test_it_can_be_sent_to_another_process(trained, texts):
    import pickle

    again = pickle.loads(pickle.dumps(trained))
    assert (again.fingerprint, again.eos_token_id, again.bos_token) == (trained.fingerprint, 0, None)
    assert again.encode_batch(texts[:3]) == trained.encode_batch(texts[:3])


def test_end_of_text_is_made_special_where_the_file_does_not(trained, tmp_path):
    trained.save(tmp_path / "t.json")
    value = json.loads((tmp_path / "t.json").read_text())
    value["added_tokens"][0]["special"] = False
    (tmp_path / "t.json").write_text(json.dumps(value))
    text = "a<|endoftext|>b"
    tokenizer = Tokenizer.load(tmp_path / "t.json")
    assert tokenizer.encode(text) == trained.encode(text)
    tokenizer.save(tmp_path / "again.json")
    assert Tokenizer.load(tmp_path / "again.json").fingerprint == tokenizer.fingerprint


def test_the_vocabulary_ends_with_its_largest_id(trained, tmp_path):
    trained.save(tmp_path / "t.json")
    value = json.loads((tmp_path / "t.json").read_text())
    value["model"]["vocab"]["<padding>"] = 703  # ids 600 to 702 are missing
    (tmp_path / "t.json").write_text(json.dumps(value))
    assert Tokenizer.load(tmp_path / "t.json").vocab_size == 704


def test_end_of_text_by_name_by_habit_and_missing(trained, tmp_path):
    trained.save(tmp_path / "t.json")
    assert Tokenizer.load(tmp_path / "t.json", "self").eos_token_id == trained.encode("self")[0]
    with pytest.raises(InputError, match="has no token '<end>'"):
        Tokenizer.load(tmp_path / "t.json", "<end>")
    renamed = json.dumps(json.loads((tmp_path / "t.json").read_text()), ensure_ascii=False)
    (tmp_path / "t.json").write_text(renamed.replace("<|endoftext|>", "</s>"))
    assert Tokenizer.load(tmp_path / "t.json").eos_token == "</s>"
    (tmp_path / "t.json").write_text(renamed.replace("<|endoftext|>", "<stop>"))
    with pytest.raises(InputError, match="name its end-of-text token"):
        Tokenizer.load(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("name", "vocab_size", "eos_token_id"),
    [("allenai_gpt-neox-olmo-dolma-v1_5.json", 50_280, 50_279), ("bpe-1024.json", 1024, 0)],
)
def test_published_tokenizers(shared, name, vocab_size, eos_token_id):
    tokenizer = Tokenizer.load(shared / "tokenizers" / name)
    assert (tokenizer.vocab_size, tokenizer.eos_token_id) == (vocab_size, eos_token_id)
    text = "The quick brown fox, 1234 times.\n"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_truncation_and_padding_of_a_file_are_switched_off(trained, tmp_path):
    trained.save(tmp_path / "t.json")
    value = json.loads((tmp_path / "t.json").read_text())
    value["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "t.json").write_text(json.dumps(value))
    assert len(Tokenizer.load(tmp_path / "t.json").encode("one two three four five six seven")) > 4

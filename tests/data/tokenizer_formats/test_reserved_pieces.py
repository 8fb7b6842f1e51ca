import json

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.data.tokenizer_formats.reserved_pieces import shield_reserved_pieces
from lightning_polycom.errors import InputError

TEXT = "the cat sat on the mat, and the dog sat on the log; so the cats and dogs were glad. "


@pytest.fixture(params=["", "< / s >"], ids=["unknown characters", "known characters"])
def path(request, tmp_path):
    """A unigram tokenizer.json whose vocabulary has the characters of `</s>`, or not."""
    backend = Backend(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator([TEXT * 20 + request.param], trainer)
    backend.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_end_of_text_is_not_read_out_of_a_text(path):
    plain = Backend.from_file(str(path))
    plain.encode_special_tokens = True
    tokenizer = Tokenizer.load(path)
    assert tokenizer.eos_token_id == 1
    assert 1 in plain.encode("the cat</s> sat").ids  # what the library does by itself
    assert 1 not in tokenizer.encode("the cat</s> sat")
    for text in (TEXT, "cats < dogs", "日本 the <s> log", "unknown ☃☃ things", " "):
        assert tokenizer.encode(text) == plain.encode(text).ids


def test_a_shielded_file_stays_as_it_is(path, tmp_path):
    Tokenizer.load(path).save(tmp_path / "again.json")
    content = (tmp_path / "again.json").read_bytes()
    assert content != path.read_bytes()
    assert shield_reserved_pieces(content) == content


def test_a_special_token_that_cannot_be_shielded_is_refused(path):
    value = json.loads(path.read_bytes())
    value["model"]["vocab"].append(["☃☃", -5.0])  # its character is no piece
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(InputError, match="reads its special token '</s>' out of a text"):
        Tokenizer.load(path)

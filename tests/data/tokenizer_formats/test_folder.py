import json
import shutil

import pytest

from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.errors import InputError


@pytest.fixture
def folder(shared, tmp_path):
    """A folder with bpe-1024.json as its tokenizer.json."""
    shutil.copyfile(shared / "tokenizers" / "bpe-1024.json", tmp_path / "tokenizer.json")
    return tmp_path


@pytest.fixture
def gpt2(shared, tmp_path):
    """A folder with GPT-2's two files under the names that they have on the hub."""
    shutil.copyfile(shared / "tokenizers" / "gpt2" / "encoder.json", tmp_path / "vocab.json")
    shutil.copyfile(shared / "tokenizers" / "gpt2" / "vocab.bpe", tmp_path / "merges.txt")
    return tmp_path


@pytest.fixture
def mistral(shared, tmp_path):
    """A folder with a tokenizer.model."""
    shutil.copyfile(shared / "tokenizers" / "mistral-v1-sp32k.model", tmp_path / "tokenizer.model")
    return tmp_path


def write(folder, name, **values):
    (folder / name).write_text(json.dumps(values), encoding="utf-8")


def refuses(folder, message, **options):
    with pytest.raises(InputError, match=message) as caught:
        Tokenizer.load(folder, **options)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_tokenizer_json_is_taken_as_it_is(folder, shared):
    assert Tokenizer.load(folder).fingerprint == Tokenizer.load(shared / "tokenizers" / "bpe-1024.json").fingerprint


def test_end_of_text_is_that_of_the_settings_unless_one_is_given(folder):
    assert Tokenizer.load(folder).eos_token_id == 0
    second = next(token for token, id_ in vocabulary(folder).items() if id_ == 1)
    write(folder, "special_tokens_map.json", eos_token={"content": second, "lstrip": False})
    assert Tokenizer.load(folder).eos_token_id == 1
    write(folder, "tokenizer_config.json", eos_token="<|endoftext|>")
    assert Tokenizer.load(folder).eos_token_id == 0
    assert Tokenizer.load(folder, eos_token=second).eos_token_id == 1
    write(folder, "tokenizer_config.json", eos_token="<stop>")
    refuses(folder, "names '<stop>', which it does not have")
    refuses(folder, "has no token '<end>'", eos_token="<end>")


def vocabulary(folder):
    return json.loads((folder / "tokenizer.json").read_bytes())["model"]["vocab"]


def test_added_tokens_of_the_settings_get_their_ids(folder):
    text = "a <extra> b <|im_end|> c"
    before = Tokenizer.load(folder)
    decoder = {
        "1030": {"content": "<|im_end|>", "special": True},
        "1050": {"content": "<extra>", "special": False, "normalized": False},
    }
    write(folder, "tokenizer_config.json", added_tokens_decoder=decoder, eos_token="<|im_end|>")
    tokenizer = Tokenizer.load(folder)
    assert (tokenizer.eos_token_id, tokenizer.vocab_size) == (1030, 1051)
    assert tokenizer.encode(text) == [*before.encode("a "), 1050, *before.encode(" b <|im_end|> c")]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    tokenizer.save(folder / "again.json")
    assert Tokenizer.load(folder / "again.json", "<|im_end|>").encode(text) == tokenizer.encode(text)


def test_added_tokens_that_contradict_the_vocabulary(folder):
    write(folder, "added_tokens.json", **{"<new>": 5})
    refuses(folder, "'<new>' the id 5, its vocabulary says otherwise")
    write(folder, "added_tokens.json", **{"<new>": "five"})
    refuses(folder, "malformed added tokens")


def test_gpt2_files(gpt2, shared):
    tokenizer = Tokenizer.load(gpt2)
    assert (tokenizer.vocab_size, tokenizer.eos_token, tokenizer.eos_token_id) == (50_257, "<|endoftext|>", 50_256)
    assert tokenizer.fingerprint == Tokenizer.load(shared / "tokenizers" / "gpt2").fingerprint
    assert tokenizer.encode("Hello world") == [15496, 995]  # as published by OpenAI
    assert 50_256 not in tokenizer.encode("<|endoftext|>")
    write(gpt2, "tokenizer_config.json", tokenizer_class="GPT2Tokenizer", add_prefix_space=True)
    assert Tokenizer.load(gpt2).encode("Hello world") == [18435, 995]


def test_files_of_other_kinds_of_bpe(gpt2):
    write(gpt2, "tokenizer_config.json", tokenizer_class="CLIPTokenizer")
    refuses(gpt2, "class CLIPTokenizer")
    (gpt2 / "tokenizer_config.json").unlink()
    merges = (gpt2 / "merges.txt").read_text(encoding="utf-8")
    (gpt2 / "merges.txt").write_text(merges + "only-one\n", encoding="utf-8")
    refuses(gpt2, "line 50002 merges no two tokens: 'only-one'")
    (gpt2 / "vocab.json").write_text('{"a": 0, "b</w>": 1}', encoding="utf-8")
    refuses(gpt2, "not byte-level")
    (gpt2 / "vocab.json").write_text('{"a": 0, "b": 0}', encoding="utf-8")
    refuses(gpt2, "no JSON object of tokens")


def test_a_sentencepiece_model_with_added_special_tokens(mistral):
    write(mistral, "added_tokens.json", **{"<pad>": 32_000})
    write(mistral, "special_tokens_map.json", eos_token="</s>", pad_token="<pad>")
    tokenizer = Tokenizer.load(mistral, bos_token="<s>")
    assert (tokenizer.vocab_size, tokenizer.eos_token_id, tokenizer.bos_token_id) == (32_001, 2, 1)
    assert 32_000 not in tokenizer.encode("<pad>")
    write(mistral, "added_tokens.json", **{"<pad>": 32_000, "<tool>": 32_001})
    refuses(mistral, "adds '<tool>', which is looked for in every text")


def test_a_folder_without_a_tokenizer(tmp_path):
    refuses(tmp_path, "has no tokenizer; it needs tokenizer.json")
    write(tmp_path, "vocab.json", a=0)
    refuses(tmp_path, "has no tokenizer")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("content", ["[]", "{", "3"])
def test_damaged_files(folder, name, content):
    (folder / name).write_text(content, encoding="utf-8")
    write(folder, "added_tokens.json", **{"<new>": 1024})
    refuses(folder, name)

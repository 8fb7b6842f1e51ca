"""AutoTokenizer on an exported folder gives the ids that the decoder was trained on."""

import json

import pytest
from tiny_exports import tiny

from lightning_polycom.checkpoints.load import load_tokenizer
from lightning_polycom.errors import InputError
from lightning_polycom.evaluation.encoding import Encoder
from lightning_polycom.huggingface.export import export_checkpoint
from lightning_polycom.huggingface.import_ import import_folder

TEXTS = [
    "def main():\n    return 1\n",
    "  two  spaces , and a comma . don't",
    "an end <|endoftext|> that is text",
    "Ünïcödé, 中文, 🙂\r\n\ttab",
    "",
]


def both(make_run, tmp_path, config, tokenizer_json=None, bos_token=None):
    from transformers import AutoTokenizer

    run, _ = make_run(config)
    if tokenizer_json is not None:
        (run / "tokenizer.json").write_text(tokenizer_json)
        record = json.loads((run / "run.json").read_text())
        tokens = {"eos_token": "<|endoftext|>", "bos_token": bos_token}
        (run / "run.json").write_text(json.dumps({**record, "tokenizer": tokens}))
    export_checkpoint(run, tmp_path / "exported")
    return load_tokenizer(run), AutoTokenizer.from_pretrained(tmp_path / "exported", trust_remote_code=True)


@pytest.mark.parametrize("config", [tiny(), tiny("swiglu"), tiny("swiglu", qk_norm="head"), tiny("relu2")])
def test_the_same_ids_in_every_layout(make_run, tmp_path, config):
    ours, theirs = both(make_run, tmp_path, config)
    for text in TEXTS:
        ids = ours.encode(text)
        assert theirs(text)["input_ids"] == ids
        assert theirs.encode(text, add_special_tokens=False) == ids
        assert theirs.decode(ids) == ours.decode(ids) == text
    assert theirs.eos_token_id == ours.eos_token_id and theirs.bos_token is None
    assert theirs.model_max_length == 64


@pytest.mark.parametrize("name", ["allenai_gpt-neox-olmo-dolma-v1_5.json", "allenai_dolma2.json", "bpe-8192.json"])
def test_real_tokenizers(make_run, tmp_path, shared, name):
    config = tiny("swiglu", vocab_size=100_300)
    content = (shared / "tokenizers" / name).read_text(encoding="utf-8")
    ours, theirs = both(make_run, tmp_path, config, content)
    for text in TEXTS:
        assert theirs(text)["input_ids"] == ours.encode(text)


def test_a_tokenizer_that_would_add_a_token_adds_none(make_run, tmp_path, prepared):
    content = json.loads((prepared / "tokenizer.json").read_text(encoding="utf-8"))
    content["post_processor"] = template("<|endoftext|>", 0)
    ours, theirs = both(make_run, tmp_path, tiny("swiglu"), json.dumps(content))
    for text in TEXTS:
        assert theirs(text)["input_ids"] == ours.encode(text)


def test_the_end_of_text_token_of_a_folder(export, tmp_path):
    folder, _ = export(tiny("swiglu"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())

    def eos(name, **options):
        import_folder(folder, tmp_path / name, **options)
        return json.loads((tmp_path / name / "run.json").read_text())["tokenizer"]["eos_token"]

    assert eos("named") == "<|endoftext|>"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": {"content": "!"}}))
    assert eos("nested") == "!"
    (folder / "tokenizer_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": [2, 0]}))
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert vocabulary[eos("by id")] == 2
    assert eos("given", eos_token="a") == "a"
    with pytest.raises(InputError, match="has no token 'nothing'"):
        import_folder(folder, tmp_path / "wrong", eos_token="nothing")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"lacks tokenizer\.json"):
        import_folder(folder, tmp_path / "none")


def test_a_tokenizer_that_only_sentencepiece_can_use_is_refused(shared, make_run, tmp_path):
    from lightning_polycom.data import Tokenizer

    run, _ = make_run(tiny())
    Tokenizer.load(shared / "tokenizers" / "sentencepiece-test-1k.model").save(run / "tokenizer.json")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "tokenizer": {"eos_token": "</s>"}}))
    with pytest.raises(InputError, match=r"export: .* SentencePiece"):
        export_checkpoint(run, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


@pytest.fixture
def beginning(prepared) -> str:
    """The tests' tokenizer with a beginning-of-text token in the place of its last one."""
    content = json.loads((prepared / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    last = next(token for token, number in vocabulary.items() if number == 599)
    del vocabulary[last]
    content["model"]["merges"] = [pair for pair in content["model"]["merges"] if "".join(pair).replace(" ", "") != last]
    vocabulary["<s>"] = 599
    token = {"id": 599, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    content["added_tokens"].append({**token, "special": True})
    return json.dumps(content)


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


@pytest.mark.parametrize("processor", [None, BYTE_LEVEL, "eos"])
@pytest.mark.parametrize("config", [tiny("swiglu"), tiny()])
def test_a_beginning_of_text_token_goes_out_and_comes_back(make_run, tmp_path, beginning, config, processor):
    content = json.loads(beginning)
    if processor == "eos":  # a step that adds what training does not
        processor = template("<|endoftext|>", 0)
    ours, theirs = both(
        make_run, tmp_path, config, json.dumps({**content, "post_processor": processor}), bos_token="<s>"
    )
    encoder = Encoder(ours, ours.bos_token_id)
    assert ours.bos_token_id == theirs.bos_token_id == 599
    for text in TEXTS:
        ids = encoder.encode([text])[0].tolist()
        assert theirs(text)["input_ids"] == ids == [599, *ours.encode(text)]
        assert theirs.encode(text, add_special_tokens=False) == ours.encode(text)
        assert theirs([text, "x"])["input_ids"][0] == ids
    assert theirs("a <s> b")["input_ids"] == encoder.encode(["a <s> b"])[0].tolist()  # spelt, it is text
    assert theirs("a", "b")["input_ids"] == [599, *ours.encode("a"), 599, *ours.encode("b")]
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "exported" / name).read_text())["bos_token_id"] == 599
    import_folder(tmp_path / "exported", tmp_path / "back")
    back = load_tokenizer(tmp_path / "back")
    assert (back.bos_token, back.eos_token) == ("<s>", "<|endoftext|>")
    assert [back.encode(text) for text in TEXTS] == [ours.encode(text) for text in TEXTS]
    export_checkpoint(tmp_path / "back", tmp_path / "again")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json"):
        assert json.loads((tmp_path / "again" / name).read_text()) == json.loads(
            (tmp_path / "exported" / name).read_text()
        ), name


@pytest.mark.parametrize(
    ("processor", "settings", "expected"),
    [
        (None, {}, None),
        (None, {"bos_token": "<s>"}, None),
        ("<s>", {}, "<s>"),
        ("<s>", {"bos_token": "<s>", "add_bos_token": False}, "<s>"),
        (None, {"bos_token": "<s>", "add_bos_token": True}, None),
    ],
)
def test_a_folder_of_others_begins_texts_as_auto_tokenizer_does(
    export, tmp_path, beginning, processor, settings, expected
):
    from transformers import AutoTokenizer

    folder, _ = export(tiny("swiglu"))
    content = {**json.loads(beginning), "post_processor": processor and template(processor, 599)}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    written = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(written))
    (folder / "special_tokens_map.json").unlink()
    import_folder(folder, tmp_path / "imported")
    tokenizer = load_tokenizer(tmp_path / "imported")
    assert tokenizer.bos_token == expected
    found = AutoTokenizer.from_pretrained(folder)("a text")["input_ids"]
    assert found == Encoder(tokenizer, tokenizer.bos_token_id).encode(["a text"])[0].tolist()


def template(token: str, number: int) -> dict:
    """A step of tokenizer.json that puts a token before a text."""
    return {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }

"""AutoTokenizer on an exported folder gives the ids that the decoder was trained on."""

import json

import pytest
from tiny_exports import tiny

from lightning_polycom.checkpoints.load import load_tokenizer
from lightning_polycom.errors import InputError
from lightning_polycom.huggingface.export import export_checkpoint
from lightning_polycom.huggingface.import_ import import_folder

TEXTS = [
    "def main():\n    return 1\n",
    "  two  spaces , and a comma . don't",
    "an end <|endoftext|> that is text",
    "Ünïcödé, 中文, 🙂\r\n\ttab",
    "",
]


def both(make_run, tmp_path, config, tokenizer_json=None, eos_token="<|endoftext|>"):
    from transformers import AutoTokenizer

    run, _ = make_run(config)
    if tokenizer_json is not None:
        (run / "tokenizer.json").write_text(tokenizer_json)
        record = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**record, "tokenizer": {"eos_token": eos_token}}))
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
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}},
    }
    ours, theirs = both(make_run, tmp_path, tiny("swiglu"), json.dumps({**content, "post_processor": template}))
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

"""What a run trains on, by domain: prepared folders as they were, other tools' shards, and both beside each other."""

import gzip
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_polycom.data import Manifest, Tokenizer, open_shards
from lightning_polycom.data import text_bytes as text_bytes_module
from lightning_polycom.data.batches import IGNORE_INDEX, ValidationWindows
from lightning_polycom.data.joined_tokens import JoinedTokens
from lightning_polycom.data.shard_selection import ShardSelection
from lightning_polycom.data.text_bytes import count_text_bytes
from lightning_polycom.data.training_data import TrainingData
from lightning_polycom.errors import InputError

OLMO = "allenai_gpt-neox-olmo-dolma-v1_5.json"


@pytest.fixture(scope="module")
def real(shared) -> dict[str, str]:
    """Paths of the shards that the tools themselves wrote, by format, and of their tokenizer."""
    folder = shared / "token_shards"
    paths = {"dolma": "olmo_npy/*.npy", "megatron": "megatron/wiki_text_document", "llmc": "llmc_bin"}
    paths |= {"nanogpt": "nanogpt_bin/train.bin", "litdata": "litdata"}
    return {name: str(folder / path) for name, path in paths.items()} | {"tok": str(shared / "tokenizers" / OLMO)}


def raw_copy(prepared: Path, split: str, target: Path) -> Path:
    """The ids of a split of a prepared folder as a file that tells nothing of itself."""
    shards = open_shards(prepared, split)
    shards.read(0, shards.num_tokens).tofile(target)
    return target


def test_a_prepared_folder_is_what_it_was(prepared):
    data, manifest = TrainingData(ShardSelection(prepared)), Manifest.load(prepared)
    assert data.fingerprint == manifest.fingerprint and data.tokenizer == manifest.tokenizer
    assert list(data.validation) == manifest.domains("validation")
    assert data.train_shards.num_tokens == open_shards(prepared).num_tokens
    for domain, shards in data.validation.items():
        assert data.tokens_per_byte(domain) == shards.num_tokens / shards.num_bytes
    records = {(r.split, r.domain): r for r in data.records()}
    for split, domain in records:
        alone = open_shards(prepared, split, domain)
        assert records[split, domain][2:] == (alone.num_tokens, alone.fingerprint)
    # Byte for byte the hash of the versions before, on which sample orders and checkpoints rest.
    content = [manifest.tokenizer.sha256, *([s.split, s.domain, s.sha256] for s in manifest.shards)]
    assert manifest.fingerprint == hashlib.sha256(json.dumps(content).encode()).hexdigest()


def test_domains_are_one_text_by_name_whatever_their_dtype_and_order_in_yaml(real):
    named = {"m": real["megatron"], "c": real["litdata"], "n": real["nanogpt"]}
    data = TrainingData(ShardSelection(train=named, tokenizer=real["tok"], dtype={"n": "uint16"}))
    other = TrainingData(
        ShardSelection(train=dict(reversed(named.items())), tokenizer=real["tok"], dtype={"n": "uint16"})
    )
    assert data.fingerprint == other.fingerprint
    parts = [open_shards(named[name], dtype="uint16" if name == "n" else None) for name in "cmn"]
    whole = np.concatenate([part.read(0, part.num_tokens) for part in parts])
    assert parts[0].dtype != parts[1].dtype
    np.testing.assert_array_equal(data.train_shards.read(0, len(whole)), whole)
    starts = np.random.default_rng(0).integers(0, len(whole) - 999, 50)
    windows = data.train_shards.read_batch(starts, 999)
    assert windows.dtype == np.int64 and all((w == whole[s : s + 999]).all() for w, s in zip(windows, starts, strict=1))
    for span, part in zip(data.train_spans, parts, strict=True):
        assert (span.num_tokens, span.fingerprint) == (part.num_tokens, part.fingerprint)
        np.testing.assert_array_equal(data.train_shards.read(span.first_token, 50), part.read(0, 50))
    with pytest.raises(InputError, match=r"tokens \d+ to \d+ lie outside the \d+ of all domains"):
        data.train_shards.read(len(whole) - 5, 6)


def test_joined_sequences_are_read_across_short_ones(prepared, tmp_path):
    for name, ids in {"a": [1, 2], "b": [3], "c": [4, 5, 6]}.items():
        np.array(ids, "<u2").tofile(tmp_path / f"{name}.bin")
    joined = JoinedTokens([open_shards(tmp_path / f"{name}.bin", dtype="uint16") for name in "abc"], 0)
    assert [joined.read(start, 6 - start).tolist() for start in range(6)] == [list(range(s + 1, 7)) for s in range(6)]


def test_a_prepared_folder_or_a_domain_of_it_may_be_named_beside_other_shards(prepared, tmp_path):
    raw = raw_copy(prepared, "train", tmp_path / "raw.bin")
    train = {"all": str(prepared), "code": f"{prepared}/train/code", "raw": str(raw)}
    data = TrainingData(ShardSelection(train=train, validation=str(prepared), dtype="uint16"))
    sizes = {span.domain: span.num_tokens for span in data.train_spans}
    assert sizes["all"] == sizes["raw"] == open_shards(prepared).num_tokens
    assert sizes["code"] == open_shards(prepared, "train", "code").num_tokens
    assert list(data.validation) == ["code", "prose"]
    assert data.tokenizer == Manifest.load(prepared).tokenizer  # it need not be named


def test_named_validation_domains_stand_beside_those_of_the_folder_and_move_nothing(prepared, tmp_path):
    raw = raw_copy(prepared, "validation", tmp_path / "raw.bin")
    data = TrainingData(ShardSelection(prepared, validation={"raw": str(raw)}, dtype="uint16"))
    assert list(data.validation) == ["code", "prose", "raw"]
    assert data.fingerprint == Manifest.load(prepared).fingerprint
    native = open_shards(prepared, "validation")
    assert data.tokens_per_byte("raw") == native.num_tokens / native.num_bytes
    with pytest.raises(InputError, match="has a domain 'code' too; give this one another name"):
        _ = TrainingData(ShardSelection(prepared, validation={"code": str(raw)}, dtype="uint16")).validation


@pytest.mark.parametrize(("longest", "block"), [(1 << 16, 1 << 20), (7, 1 << 20), (3, 50), (1, 1)])
def test_bytes_of_text_are_exact_whatever_the_pieces(shared, tmp_path, monkeypatch, longest, block):
    lines = gzip.decompress((shared / "corpora/wiki_multilingual/val.jsonl.gz").read_bytes()).splitlines()
    texts = [json.loads(line)["text"][:400] for line in lines[:40]]
    tokenizer = Tokenizer.load(shared / "tokenizers/bpe-1024.json")
    ids = [token for text in texts for token in [*tokenizer.encode(text), tokenizer.eos_token_id]]
    np.array(ids, "<u2").tofile(tmp_path / "x.bin")
    monkeypatch.setattr(text_bytes_module, "_LONGEST", longest)
    monkeypatch.setattr(text_bytes_module, "_BLOCK", block)
    counted = count_text_bytes(open_shards(tmp_path / "x.bin", dtype="uint16"), tokenizer)
    assert counted == sum(len(text.encode()) for text in texts) > 1.3 * sum(map(len, texts))


def test_end_of_text_before_documents_is_the_same_stream_one_token_later(real, shared):
    def windows(path, dtype, length):
        data = TrainingData(ShardSelection(validation={"v": str(path)}, tokenizer=real["tok"], dtype=dtype))
        return next(iter(ValidationWindows(data.validation["v"], length, 1, 0, 1, None, separate_documents=True)))

    folder, length = shared / "token_shards", 30_000
    before = windows(folder / "llmc_bin/wiki_val_000000.bin", None, length)
    after = windows(folder / "nanogpt_bin/val.bin", "uint16", length)
    assert torch.equal(before["input_ids"][:, 1:], after["input_ids"][:, :-1])
    assert torch.equal(before["positions"][:, 1:], after["positions"][:, :-1])
    assert torch.equal(before["labels"][:, 1:], after["labels"][:, :-1])
    assert before["positions"][0, 0] == 0 and before["labels"][0, 0] == IGNORE_INDEX
    record = json.loads((folder / "nanogpt_bin/manifest.json").read_bytes())["files"][1]
    starts = (after["positions"][0] == 0).nonzero().flatten().tolist()
    assert starts == np.cumsum([0, *record["document_lengths"]])[: len(starts)].tolist() and len(starts) > 5


def test_documents_must_be_told_apart(real, prepared, tmp_path):
    named = {name: real[name] for name in ("dolma", "megatron", "llmc", "litdata")}
    data = TrainingData(ShardSelection(train=named, tokenizer=real["tok"]))
    with pytest.raises(InputError, match=r"the end of 'llmc' and the beginning of 'megatron'; give data\.mixture"):
        data.require_document_ends(in_one_text=True)
    data.require_document_ends(in_one_text=False)
    other = TrainingData(ShardSelection(train=named, tokenizer=real["tok"], eos_token="<|padding|>"))
    with pytest.raises(InputError, match="found no end-of-text id 1 in samples of train domain 'dolma'"):
        other.require_document_ends(in_one_text=False)
    whole = Manifest.load(prepared)
    np.full(500, whole.tokenizer.eos_token_id + 5, "<u2").tofile(tmp_path / "x.bin")
    beside = ShardSelection(prepared, validation={"x": str(tmp_path / "x.bin")}, dtype="uint16")
    with pytest.raises(InputError, match="in samples of validation domain 'x'"):
        TrainingData(beside).require_document_ends(in_one_text=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nothing to train on; name a prepared folder in data.folder, or shards in data.train"),
        ({"folder": "FOLDER", "train": "x"}, "data.train: found beside data.folder"),
        ({"train": {"a/b": "x"}}, "data.train: found domain 'a/b'; use letters"),
        ({"train": {"a": "x"}, "dtype": {"b": "uint16"}}, "data.dtype: no domain 'b'; there are a"),
        ({"train": {"a": "no/such"}}, "data.tokenizer: empty; files of other tools do not bring"),
        ({"train": {"a": "no/such"}, "tokenizer": "TOKENIZER"}, "no/such: not found"),
        ({"train": {"a": []}, "tokenizer": "TOKENIZER"}, "the list is empty"),
        ({"train": {"a": "RAW"}, "tokenizer": "TOKENIZER"}, "give their dtype, such as uint16"),
        ({"train": {"a": ["RAW", "FOLDER"]}, "dtype": "uint16"}, "'a' lists .*FOLDER, which `polycom prepare` made"),
        ({"train": {"a": "RAW"}, "tokenizer": "TOKENIZER", "dtype": "uint32"}, "6 bytes of ids found, expected a"),
        ({"train": {"a": "WIDE"}, "tokenizer": "TOKENIZER", "dtype": "uint16"}, "outside a vocabulary of 600"),
        ({"train": {"a": "ONE"}, "tokenizer": "TOKENIZER", "dtype": "uint16"}, "'a' has 1 token; leave it out"),
        ({"folder": "FOLDER", "tokenizer": "BPE"}, r"is tokenizer \w+, .* was prepared with \w+; leave it out"),
        ({"folder": "FOLDER", "eos_token": "</s>"}, "data.eos_token: found '</s>', .* was prepared with"),
        ({"train": {"a": "FOLDER/train/web"}}, "not among the shards of"),
        ({"validation": {"a": "x"}, "tokenizer": "TOKENIZER"}, "data.train: empty"),
    ],
)
def test_wrong_settings_are_refused(prepared, shared, tmp_path, settings, message):
    shutil.copytree(prepared, tmp_path / "FOLDER")
    shutil.copy(prepared / "tokenizer.json", tmp_path / "TOKENIZER")
    shutil.copy(shared / "tokenizers/bpe-1024.json", tmp_path / "BPE")
    for name, ids in {"RAW": [5, 6, 7], "WIDE": [5, 600], "ONE": [5]}.items():
        np.array(ids, "<u2").tofile(tmp_path / name)

    text = json.dumps(settings)
    for path in tmp_path.iterdir():
        text = text.replace(f'"{path.name}', f'"{path}')
    placed = json.loads(text)
    if "folder" in placed:
        placed["folder"] = Path(placed["folder"])
    with pytest.raises(InputError, match=message) as error:
        _ = TrainingData(ShardSelection(**placed)).train_shards
    assert "\n" not in str(error.value)


def test_two_tokenizers_are_refused(prepared, small_prepared):
    named = {"a": str(prepared), "b": str(small_prepared[0])}
    with pytest.raises(InputError, match=r"was prepared with tokenizer \w{12} and .* prepare both with one tokenizer"):
        TrainingData(ShardSelection(train=named))
    with pytest.raises(InputError, match="prepare both with one tokenizer"):
        TrainingData(ShardSelection(prepared, validation={"b": str(small_prepared[0])}))

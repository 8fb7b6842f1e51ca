import shutil

import numpy as np
import pytest


def test_a_prepared_folder(polycom, prepared):
    outcome = polycom("data", "inspect", prepared, "--verify", "--frequent", 3)
    assert outcome.code == 0, outcome.err
    for part in (
        "lightning_polycom.shards/1",
        "'<|endoftext|>', id 0",
        "Every document is followed by one end-of-text token",
        "validation  prose",
        "Tokens per document",
        "of the vocabulary of 600",
        "token 0, a document of",
        "verified: the SHA-256 of each of",
    ):
        assert part in outcome.out
    assert '"""' in outcome.out  # the first document is a module with its docstring


def test_a_damaged_shard(polycom, prepared, tmp_path):
    copy = shutil.copytree(prepared, tmp_path / "copy")
    path = copy / "validation" / "code-00000.bin"
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    assert polycom("data", "inspect", copy).code == 0
    outcome = polycom("data", "inspect", copy, "--verify")
    assert outcome.code == 2 and "code-00000.bin: its SHA-256 is" in outcome.err
    assert outcome.err.count("\n") == 1


def test_shards_of_another_tool_with_a_tokenizer(polycom, prepared, tmp_path):
    ids = np.fromfile(prepared / "train" / "code-00000.bin", "<u2")[:5000]
    ids.tofile(tmp_path / "train.bin")
    path, tokenizer = tmp_path / "train.bin", prepared / "tokenizer.json"
    outcome = polycom("data", "inspect", path, "--dtype", "uint16", "--tokenizer", tokenizer, "--verify")
    assert outcome.code == 0, outcome.err
    for part in ("raw ids", "5,000", "not recorded", '"""', "verified: each of 5,000 ids"):
        assert part in outcome.out
    outcome = polycom("data", "inspect", path, path, "--dtype", "uint16")
    assert outcome.code == 0 and "10,000" in outcome.out


def test_a_prepared_folder_has_its_own_tokenizer(polycom, prepared):
    for option in ("--tokenizer", "--eos_token"):
        outcome = polycom("data", "inspect", prepared, option, "x")
        assert outcome.code == 2 and f"{option[2:]}: {prepared} has its own" in outcome.err


def test_text_cannot_command_the_terminal(polycom, prepared, tmp_path):
    from lightning_polycom.data import Tokenizer

    ids = Tokenizer.load(prepared / "tokenizer.json").encode("[red]a\x1b[31mb\n")
    np.save(tmp_path / "a.npy", np.array(ids, "<u2"))
    outcome = polycom("data", "inspect", tmp_path, "--tokenizer", prepared / "tokenizer.json")
    assert "\x1b" not in outcome.out
    assert "[red]a\\x1b[31mb" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "absent: not found"),
        (["README.md"], "README.md: "),
        (["README.md", "--documents", "-1"], "documents: found -1"),
        (["README.md", "--dtype", "uint16", "--verify"], "verify: "),
        ([], "required"),
        (["README.md", "--tokenizer", "absent.json"], "absent.json is no file"),
    ],
)
def test_mistakes_are_one_line(polycom, arguments, message):
    outcome = polycom("data", "inspect", *arguments)
    assert outcome.code == 2 and outcome.out == ""
    assert message in outcome.err and outcome.err.count("\n") == 1


def test_real_files(polycom, shared):
    tokenizer = shared / "tokenizers" / "allenai_gpt-neox-olmo-dolma-v1_5.json"
    places = {"olmo_npy": "after each document", "megatron": "after each document", "llmc_bin": "before each document"}
    for name, place in places.items():
        outcome = polycom("data", "inspect", shared / "token_shards" / name, "--tokenizer", tokenizer)
        assert outcome.code == 0, outcome.err
        assert place in outcome.out
        assert "manga" in outcome.out or "lobster" in outcome.out
    outcome = polycom(
        "data", "inspect", shared / "token_shards" / "megatron", "--tokenizer", tokenizer.parent / "bpe-1024.json"
    )
    assert outcome.code == 2 and "outside a vocabulary of 1024" in outcome.err

import json
from dataclasses import replace

import pytest

from lightning_polycom.data.manifest import Manifest, content_fingerprint
from lightning_polycom.errors import InputError


def test_save_and_load_are_inverse(small_prepared, tmp_path):
    _, manifest = small_prepared
    manifest.save(tmp_path)
    assert Manifest.load(tmp_path) == manifest
    assert json.loads((tmp_path / "manifest.json").read_text())["format"] == "lightning_polycom.shards/1"


def test_manifests_from_before_there_was_a_beginning_of_text(small_prepared, tmp_path):
    _, manifest = small_prepared
    manifest.save(tmp_path)
    value = json.loads((tmp_path / "manifest.json").read_text())
    del value["tokenizer"]["bos_token"], value["tokenizer"]["bos_token_id"]
    (tmp_path / "manifest.json").write_text(json.dumps(value))
    assert Manifest.load(tmp_path) == manifest
    named = replace(manifest, tokenizer=replace(manifest.tokenizer, bos_token="<s>", bos_token_id=1))
    named.save(tmp_path)
    assert Manifest.load(tmp_path) == named


def test_domains_keep_their_order(small_prepared):
    _, manifest = small_prepared
    assert manifest.domains("train") == manifest.domains("validation") == ["code", "prose"]
    assert manifest.domains("test") == []


def test_fingerprint_is_that_of_the_contents_in_order(small_prepared):
    _, manifest = small_prepared
    sha256, shards = manifest.tokenizer.sha256, manifest.shards
    assert content_fingerprint(sha256, shards) == manifest.fingerprint
    others = [
        content_fingerprint("0" * 64, shards),
        content_fingerprint(sha256, shards[::-1]),
        content_fingerprint(sha256, [replace(shards[0], sha256="0" * 64), *shards[1:]]),
        content_fingerprint(sha256, [replace(shards[0], domain="other"), *shards[1:]]),
    ]
    assert len({manifest.fingerprint, *others}) == 5


def test_missing(tmp_path):
    with pytest.raises(InputError, match=r"manifest\.json: not found.*polycom prepare"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.update(format="other/2"), "other/2"),
        (lambda value: value.pop("dtype"), "dtype"),
        (lambda value: value.update(dtype="float32"), "float32"),
        (lambda value: value["shards"][0].pop("sha256"), "sha256"),
        (lambda value: value["shards"][0].update(num_tokens="many"), "num_tokens"),
        (lambda value: value["shards"][0].update(file="../../x.bin"), "outside"),
        (lambda value: value["tokenizer"].update(extra=1), "extra"),
        (lambda value: value["tokenizer"].update(bos_token_id="1"), "bos_token_id"),
        (lambda value: value["tokenizer"].pop("eos_token_id"), "eos_token_id"),
        (lambda value: value.update(shards=3), "int"),
    ],
)
def test_malformed(small_prepared, tmp_path, change, message):
    value = json.loads((small_prepared[0] / "manifest.json").read_text())
    change(value)
    (tmp_path / "manifest.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=message) as caught:
        Manifest.load(tmp_path)
    assert "polycom prepare" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_not_even_json(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(InputError, match="malformed"):
        Manifest.load(tmp_path)

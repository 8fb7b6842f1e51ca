import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.data.tokenizer_formats.hub import is_hub_name
from lightning_polycom.errors import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(shared, tmp_path, monkeypatch) -> Path:
    """A hub's cache that holds owner/small, in the layout of huggingface_hub."""
    repository = tmp_path / "models--owner--small"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copyfile(shared / "tokenizers" / "bpe-1024.json", snapshot / "tokenizer.json")
    (snapshot / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def network(monkeypatch) -> list:
    """The requests for files that would have gone to the hub; each fails."""
    asked = []

    def snapshot_download(repository, **_):
        asked.append(repository)
        raise ConnectionError("no\nroute")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return asked


@pytest.mark.parametrize("name", ["owner/small", "owner/small@main", f"owner/small@{COMMIT}"])
def test_a_name_in_the_cache_is_loaded_without_the_network(cache, network, shared, name):
    expected = Tokenizer.load(shared / "tokenizers" / "bpe-1024.json")
    assert Tokenizer.load(name).fingerprint == expected.fingerprint
    assert network == []


@pytest.mark.parametrize("name", ["owner/other", "owner/small@v2", "gpt2"])
def test_a_name_out_of_reach(cache, network, name):
    with pytest.raises(InputError, match=r"is no file or folder here, .* cannot be fetched \(no route\)") as caught:
        Tokenizer.load(name)
    assert network == [name.split("@")[0]] and "\n" not in str(caught.value)


def test_settings_alone_in_the_cache_are_no_tokenizer(cache, network):
    (cache / "models--owner--small" / "snapshots" / COMMIT / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="cannot be fetched"):
        Tokenizer.load("owner/small")
    assert network == ["owner/small"]


def test_the_hubs_own_offline_mode_is_one_line(tmp_path):
    """In a process of its own, as the mode is read when the library is imported."""
    code = (
        "from lightning_polycom.data.tokenizer import Tokenizer\n"
        "from lightning_polycom.errors import InputError\n"
        "try:\n    Tokenizer.load('owner/absent')\nexcept InputError as error:\n    print(error)"
    )
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": ""}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.count("\n") == 1 and "owner/absent is no file or folder here" in result.stdout


@pytest.mark.parametrize(
    ("name", "is_name"),
    [
        ("gpt2", True),
        ("owner/name-1.5_b", True),
        ("owner/name@main", True),
        ("a/b/c", False),
        ("./folder", False),
        ("/folder", False),
        ("tokeniser.json", False),
        ("tokens/spm.model", False),
        ("two words", False),
        ("", False),
    ],
)
def test_what_may_be_a_name(name, is_name):
    assert is_hub_name(name) == is_name

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.checkpoints import load_decoder, locate_checkpoint
from lightning_polycom.errors import InputError
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.initialization import initialize


@pytest.fixture
def run(tmp_path, prepared) -> Path:
    """A run's folder with the checkpoint of a decoder that was never trained."""
    folder = tmp_path / "runs/name/version_2"
    (folder / "checkpoints").mkdir(parents=True)
    config = DecoderConfig(600, 32, 2, 2, 64, ActivationConfig("polyrelu", order=2), tie_embeddings=True)
    decoder = Decoder(config)
    initialize(decoder, 5)
    weights = {f"decoder.{name}": value for name, value in decoder.state_dict().items()}
    checkpoint = {"state_dict": weights, "hyper_parameters": {"decoder": asdict(config)}}
    for step in (9, 10):
        torch.save(checkpoint, folder / f"checkpoints/step-{step:08d}.ckpt")
    (folder / "checkpoints/last.ckpt").symlink_to("step-00000009.ckpt")
    (folder / "tokenizer.json").write_bytes((prepared / "tokenizer.json").read_bytes())
    (folder / "run.json").write_text(json.dumps({"tokenizer": {"eos_token": "<|endoftext|>"}}))
    return folder


def test_every_way_to_name_a_checkpoint(run):
    newest = run / "checkpoints/step-00000010.ckpt"
    (run.parent / "version_9").mkdir()  # of a run that saved nothing
    for path in (newest, run, run / "checkpoints", run.parent):
        assert locate_checkpoint(path) == newest
    assert locate_checkpoint(run / "checkpoints/last.ckpt").name == "step-00000009.ckpt"


def test_the_loaded_decoder_is_the_saved_one(run):
    decoder, tokenizer = load_decoder(run)
    expected = Decoder(decoder.config)
    initialize(expected, 5)
    ids = torch.tensor([tokenizer.encode("def main():")])
    assert torch.equal(decoder(ids), expected(ids))
    assert not decoder.training and decoder.head.weight is decoder.embedding.weight
    assert decoder.config.activation == ActivationConfig("polyrelu", order=2)
    assert tokenizer.decode(tokenizer.encode("x = 1")) == "x = 1"


def test_what_is_missing_is_named(run, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        locate_checkpoint(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no checkpoints/step-\*\.ckpt"):
        locate_checkpoint(tmp_path / "empty")
    (run / "run.json").unlink()
    with pytest.raises(InputError, match=r"run\.json cannot be read"):
        load_decoder(run)
    (run / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"lacks tokenizer\.json"):
        load_decoder(run)


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"hyper_parameters": {}}, [1, 2], torch.zeros(2)])
def test_files_of_something_else_are_refused(run, content):
    path = run / "checkpoints/step-00000011.ckpt"
    torch.save(content, path)
    with pytest.raises(InputError, match=r"step-00000011\.ckpt was not written by polycom fit"):
        load_decoder(path)


def test_weights_of_another_shape_are_refused(run):
    path = run / "checkpoints/step-00000010.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["decoder"]["hidden_size"] = 64
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match="do not fit the decoder that it names"):
        load_decoder(run)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut"])
def test_damaged_files_are_refused(run, content):
    path = run / "checkpoints/step-00000011.ckpt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"step-00000011\.ckpt"):
        load_decoder(run)

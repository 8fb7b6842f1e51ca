"""A user's own activation, in a file of his own, named by its import path in YAML: trained, saved, loaded, drawn."""

import json
import sys

import pytest
import torch
import yaml

SOURCE = '''
import torch
from torch import nn
from lightning_polycom.activations import Activation


class ScaledCube(Activation):
    """scale * x^3 with a trained scale."""

    def __init__(self, order: int = 3):
        super().__init__()
        self.order = order
        self.scale = nn.Parameter(torch.empty(1))

    def reset_parameters(self):
        with torch.no_grad():
            self.scale.fill_(0.5)

    def learned_values(self):
        return {"scale": self.scale.item()}

    def forward(self, x):
        return self.scale * x**self.order
'''


@pytest.fixture
def own_file(tmp_path, monkeypatch):
    (tmp_path / "users_activation.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "users_activation.ScaledCube"
    sys.modules.pop("users_activation", None)


def test_it_is_trained_logged_loaded_and_drawn(polycom, tiny_config, own_file, tmp_path):
    overlay = tmp_path / "own.yaml"
    activation = {"name": own_file, "order": 2}
    overlay.write_text(yaml.safe_dump({"model": {"decoder": {"activation": activation}}}), encoding="utf-8")
    outcome = polycom("fit", "--config", tiny_config, "--config", overlay)
    assert outcome.code == 0, outcome.err
    (run,) = (tmp_path / "runs/tiny").iterdir()
    scales = [
        value
        for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        for key, value in json.loads(line).items()
        if key.startswith("activation/") and key.endswith("scale")
    ]
    assert scales and scales[-1] != 0.5 and abs(scales[-1] - 0.5) < 0.1

    from lightning_polycom.checkpoints import load_decoder

    decoder, _ = load_decoder(run)
    x = torch.randn(3)
    module = decoder.blocks[0].feed_forward.activation
    torch.testing.assert_close(module(x), module.scale * x**2)
    outcome = polycom("analyze", "activation", run, "--output", tmp_path / "figures")
    assert outcome.code == 0, outcome.err


def test_a_wrong_path_is_one_line(polycom, tiny_config, own_file):
    outcome = polycom("fit", "--config", tiny_config, "--model.decoder.activation.name", own_file + "d")
    assert outcome.code == 2
    assert "is no Activation class" in outcome.err and outcome.err.strip().count("\n") == 0

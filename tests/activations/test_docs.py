"""docs/activations.md: the example runs, and the table names every activation and option."""

import re
import sys
from dataclasses import fields
from pathlib import Path

import torch

from lightning_polycom.activations import ACTIVATIONS, ActivationConfig, build_activation

TEXT = (Path(__file__).parents[2] / "docs/activations.md").read_text(encoding="utf-8")


def test_the_example_of_an_own_activation_runs(tmp_path, monkeypatch):
    (source,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "my_activations.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    x = torch.randn(3, 4)
    torch.testing.assert_close(build_activation("my_activations.Snake")(x), x + torch.sin(x) ** 2)
    sys.modules.pop("my_activations")


def test_every_name_and_option_is_described():
    for name in [*ACTIVATIONS, *(field.name for field in fields(ActivationConfig) if field.name != "name")]:
        assert f"`{name}" in TEXT, name

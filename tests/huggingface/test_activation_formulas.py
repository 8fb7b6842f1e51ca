"""The formulas that travel with an export are the registry's, for every member and option."""

import itertools

import pytest
import torch

from lightning_polycom.activations import ACTIVATIONS, ActivationConfig, build_activation
from lightning_polycom.activations.registry import _parameters
from lightning_polycom.huggingface.files.activations_polycom import GATED
from lightning_polycom.huggingface.files.activations_polycom import build_activation as build_exported

WIDTH = 24
OPTIONS = {
    "order": [1, 2, 4],
    "coefficients": [(0.3, 0.2, 0.6)],
    "bias": [False],
    "eps": [0.1],
    "scope": ["channel"],
    "learning_rate_multiplier": [3.0],
    "frozen": [True],
    "sigmoid": [True],
    "bias_limit": [0.05],
    "output_scale": [-0.5],
    "approximate": ["none", "tanh"],
}
COMBINED = {"order": 2, "eps": 0.01, "scope": "channel", "sigmoid": True, "bias_limit": 0.05, "output_scale": 2.0}


def cases():
    for name, cls in ACTIVATIONS.items():
        known = _parameters(cls)
        assert known - {"width", "num_experts"} <= set(OPTIONS)
        yield name, {}
        for option, values in OPTIONS.items():
            yield from ((name, {option: value}) for value in values if option in known)
        if "order" in known:
            yield name, {key: value for key, value in COMBINED.items() if key in known}
            yield name, {"order": 1, "sigmoid": True}  # which starts elsewhere


@pytest.mark.parametrize(("name", "options"), cases())
def test_formula_and_start_equal_the_registrys(name, options):
    ours = build_activation(ActivationConfig(name, **options), width=WIDTH)
    theirs = build_exported({"name": name, **ActivationConfig(name, **options).options}, WIDTH)
    assert ours.gated == (name in GATED)
    generator = torch.Generator().manual_seed(3)
    x, up = (2 * torch.randn(5, 7, WIDTH, generator=generator) for _ in range(2))
    for _ in ("as it starts", "with other numbers"):
        assert {k: v.shape for k, v in ours.state_dict().items()} == {
            k: v.shape for k, v in theirs.state_dict().items()
        }
        for key, value in ours.state_dict().items():
            torch.testing.assert_close(theirs.state_dict()[key], value, rtol=0, atol=1e-7)
        expected = ours(x, up) if ours.gated else ours(x)
        found = theirs(x) * up if ours.gated else theirs(x)
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)
        with torch.no_grad():
            for parameter in ours.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        theirs.load_state_dict(ours.state_dict())


@pytest.mark.parametrize("options", [{}, {"bias": False, "sigmoid": True}, {"order": 2, "bias_limit": 0.05}])
@pytest.mark.parametrize("name", [name for name, cls in ACTIVATIONS.items() if "scope" in _parameters(cls)])
def test_coefficients_of_each_expert(name, options):
    ours = build_activation(ActivationConfig(name, scope="expert", **options), width=WIDTH, num_experts=3)
    theirs = build_exported({"name": name, "scope": "expert", **options}, WIDTH, 3)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    theirs.load_state_dict(ours.state_dict())
    x, up = (2 * torch.randn(9, WIDTH, generator=generator) for _ in range(2))
    offsets = torch.tensor([4, 4, 9], dtype=torch.int32)  # the second expert has no rows
    expected = ours(x, up, offsets=offsets) if ours.gated else ours(x, offsets=offsets)
    found = torch.cat([theirs(x[:4], 0), theirs(x[4:], 2)])
    torch.testing.assert_close(found * up if ours.gated else found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_bf16_stays_bf16(name):
    ours, theirs = build_activation(name, width=WIDTH), build_exported({"name": name}, WIDTH)
    x, up = (torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(i)).bfloat16() for i in range(2))
    found = theirs(x) * up if ours.gated else theirs(x)
    assert found.dtype == torch.bfloat16
    expected = ours(x, up) if ours.gated else ours(x)
    torch.testing.assert_close(found, expected, rtol=2**-6, atol=2**-8)


def test_an_unknown_name_is_an_error():
    with pytest.raises(ValueError, match="unknown activation 'polynomial'"):
        build_exported({"name": "polynomial"}, WIDTH)


def test_the_cases_cover_every_option():
    names = list(itertools.chain.from_iterable(options for _, options in cases()))
    assert set(OPTIONS) <= set(names)

"""All ways compute the same function: what a benchmark compares must be the same thing."""

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from lightning_polycom.activations import ActivationConfig, build_activation
from lightning_polycom.benchmarking import ways
from lightning_polycom.benchmarking.authors_formula import AuthorsPolyNorm
from lightning_polycom.benchmarking.options import WAYS

NAMES = ["polyrelu", "polynorm", "polyrelu_glu", "polynorm_glu", "polyprelu", "polyrelunorm"]
# Relative, by norm. Parameters are fp32, and so are their gradients, also of fp64 inputs.
LIMITS = {torch.float64: (1e-12, 1e-6), torch.float32: (2e-6, 2e-5), torch.bfloat16: (1e-2, 3e-2)}


def randomised(name: str) -> nn.Module:
    module = build_activation(name, width=16)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


def results(way: ways.Way, gated: bool, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """The value and the inputs' gradients, and the gradients of what is trained."""
    torch.manual_seed(2)
    inputs = [torch.randn(8, 16).to(dtype).requires_grad_() for _ in range(1 + gated)]
    y = way.run(*inputs)
    gradients = torch.autograd.grad(y, (*inputs, *way.trained), torch.randn(8, 16).to(dtype))
    return [y, *gradients[: len(inputs)]], list(gradients[len(inputs) :])


def distance(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


def check_equal(key: str, module: nn.Module, dtype: torch.dtype) -> bool:
    """Whether there is such a way; that it computes the same as the module's reference formula is asserted."""
    way = ways.way_of(key, module)
    if way is None:
        return False
    found = results(way, module.gated, dtype)
    expected = results(ways.way_of("reference", module), module.gated, dtype)
    for pairs, limit in zip(zip(found, expected, strict=True), LIMITS[dtype], strict=True):
        for one, other in zip(*pairs, strict=True):
            assert distance(one, other) < limit
    return True


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("name", NAMES)
def test_module_and_authors_formula_equal_the_reference(name, dtype):
    module = randomised(name)
    assert check_equal("module", module, dtype)
    # The authors have no PolyPReLU and no PolyReLUNorm.
    assert check_equal("authors", module, dtype) == (name not in ("polyprelu", "polyrelunorm"))


@pytest.mark.parametrize("key", ["reference_compiled", "module_compiled"])
def test_compiled_ways_equal_the_reference(key):
    torch.compiler.reset()
    assert check_equal(key, randomised("polynorm"), torch.float32)


def test_the_reference_is_the_formula_of_the_module():
    x = torch.tensor([[-1.0, 2.0]])
    module = build_activation("polyrelu", coefficients=(0.5, 0.25, 0.125))
    assert ways.way_of("reference", module).run(x).tolist() == [[0.0, 3.0]]
    assert ways.way_of("reference", build_activation("polyrelu_glu")).run(x, 2 * x).tolist()[0][1] == pytest.approx(
        (2 + 4 + 8) / 3 * 4
    )


@pytest.mark.parametrize("key", WAYS)
def test_plain_and_foreign_activations_are_modules_only(key):
    class Own(type(build_activation("polynorm"))):
        pass

    for module in (build_activation("swiglu"), Own()):
        assert (ways.way_of(key, module) is not None) == key.startswith("module")


def test_frozen_numbers_are_not_trained():
    assert ways.way_of("module", build_activation("polynorm", frozen=True)).trained == []


def test_liger_is_said_to_be_missing(monkeypatch):
    module = build_activation("polynorm")
    with pytest.raises(ways.Unavailable, match="GPU only"):
        ways.way_of("liger", module)
    pretend_gpu(monkeypatch)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.poly_norm", None)
    with pytest.raises(ways.Unavailable, match=r"pip install 'lightning-polycom\[benchmark\]'"):
        ways.way_of("liger", module)
    assert ways.way_of("liger", build_activation("polyrelu")) is None
    assert ways.way_of("liger", build_activation("polynorm_glu")) is None


def test_liger_gets_the_same_numbers_in_its_own_order(monkeypatch):
    pretend_gpu(monkeypatch)
    package = ModuleType("liger_kernel.transformers.poly_norm")
    package.LigerPolyNorm = LigerPolyNorm
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, package.__name__, package)
    module = randomised("polynorm")
    way = ways.way_of("liger", module)
    (y, dx), (dw, db) = results(way, False, torch.float32)
    expected, (da, dbias) = results(ways.way_of("reference", module), False, torch.float32)
    assert distance(y, expected[0]) < 2e-6 and distance(dx, expected[1]) < 2e-6
    assert distance(dw.flip(0), da) < 2e-5 and distance(db.reshape(1), dbias) < 2e-5
    assert not way.run.in_place


class LigerPolyNorm(nn.Module):
    """Stands in for the package's class, with its conventions: weight[0] belongs to x^3, the bias starts at 1."""

    def __init__(self, eps: float = 1e-6, in_place: bool = True):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.full((3,), 1 / 3)), nn.Parameter(torch.tensor(1.0))
        self.eps, self.in_place = eps, in_place

    def forward(self, x: Tensor) -> Tensor:
        norms = [x**p * torch.rsqrt((x**p).square().mean(-1, keepdim=True) + self.eps) for p in (3, 2, 1)]
        return sum(w * norm for w, norm in zip(self.weight, norms, strict=True)) + self.bias


def pretend_gpu(monkeypatch):
    monkeypatch.setattr(nn.Parameter, "is_cuda", True, raising=False)


def test_the_authors_formula_of_the_decoder_benchmark_is_polynorm():
    authors = build_activation(ActivationConfig("lightning_polycom.benchmarking.authors_formula.AuthorsPolyNorm"))
    assert isinstance(authors, AuthorsPolyNorm)
    module = build_activation("polynorm")
    found = results(ways.Way(authors, list(authors.parameters())), False, torch.float32)
    expected = results(ways.way_of("module", module), False, torch.float32)
    for one, other in zip((*found[0], *found[1]), (*expected[0], *expected[1]), strict=True):
        assert distance(one, other) < 2e-5

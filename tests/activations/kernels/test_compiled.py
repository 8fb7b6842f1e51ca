"""Plain torch as torch.compile builds it for CPU: the limits and the determinism of the eager path hold there too."""

import pytest
import torch
from references import randomised, reference
from triton_calls import relative_error, value_and_gradients

from lightning_polycom.activations import build_activation
from lightning_polycom.activations.kernels import row_formulas
from lightning_polycom.training.compilation import missing_compiler

MISSING = missing_compiler(torch.device("cpu"))


@pytest.mark.skipif(MISSING is not None, reason=f"needs what torch.compile builds code with: {MISSING}")
@pytest.mark.parametrize(
    ("name", "dtype", "limit", "sum_limit"),
    [("polynorm", torch.bfloat16, 2.5e-3, 1e-5), ("polyrelu", torch.float32, 5e-7, 5e-6)],
)
@pytest.mark.slow
def test_limits_and_determinism_of_wide_rows(name, dtype, limit, sum_limit):
    module, exact = randomised(name), build_activation(name).double()
    exact.load_state_dict(module.state_dict())
    compiled = torch.compile(module, dynamic=False)
    x, g = torch.randn(64, 8256).to(dtype).requires_grad_(), torch.randn(64, 8256).to(dtype)
    first, second = (value_and_gradients(compiled, [x], list(module.parameters()), g) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    x64 = x.detach().double().requires_grad_()
    true = value_and_gradients(lambda t: reference(name, exact, t), [x64], list(exact.parameters()), g.double())
    for index, (a, b) in enumerate(zip(first, true, strict=True)):
        assert relative_error(a, b) < (limit if index < 2 else sum_limit)


@pytest.mark.parametrize("width", [4096, 4097, 8256, 16500])
def test_long_rows_are_summed_in_pieces_under_compile(width, monkeypatch):
    t = torch.randn(3, width)
    whole = row_formulas.row_sum(t)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    pieces = row_formulas.row_sum(t)
    assert pieces.shape == (3, 1)
    torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=1e-4)

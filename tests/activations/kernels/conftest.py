"""The kernels run on the GPU where there is one, else on CPU tensors in Triton's interpreter."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read once, when triton is imported: before any test has run


@pytest.fixture(scope="session")
def device() -> str:
    pytest.importorskip("triton", reason="needs Triton, which comes with CUDA builds of torch and the extra dev")
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def seed() -> None:
    """The same numbers in every run."""
    torch.manual_seed(0)

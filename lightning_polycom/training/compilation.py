"""Compiled blocks: how a training step is computed, not what it computes."""

import os
import shutil
import sysconfig
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from lightning_polycom.errors import InputError
from lightning_polycom.model import Decoder


def compile_blocks(decoder: Decoder, backend: str | Callable = "inductor") -> None:
    """Compiles every block in place, at its first call; blocks of equal shape share one graph.

    In place, because a wrapped module would save its weights under other names. Every training batch has the same
    shape, so that nothing is traced for a variable one. `backend` is torch.compile's; only tests change it.
    """
    # Graphs of an earlier run in this process would count against torch's limit of 8 a function, behind which it
    # runs eagerly.
    torch.compiler.reset()
    # Under DDP it would cut a block's graph where a bucket of gradients is full. Blocks end often enough for the
    # exchange of gradients to overlap with the backward pass.
    torch._dynamo.config.optimize_ddp = False
    for block in decoder.blocks:
        block.compile(backend=backend, dynamic=False)


def uncompiled() -> AbstractContextManager:
    """Inside, compiled modules run eagerly and nothing is traced: for batches of other shapes than training's."""
    return torch.compiler.set_stance("force_eager")


def require_compiler(device: torch.device) -> None:
    """Checks that blocks can be compiled for `device`, before anything is written.

    Raises:
        InputError: what the compiled code is built with is missing.
    """
    if (missing := missing_compiler(device)) is not None:
        raise InputError(f"model.compile: {missing}; install it or set model.compile to false")


def missing_compiler(device: torch.device) -> str | None:
    """What torch.compile lacks on this machine to build code for `device`, or None."""
    if (missing := _missing_triton() if device.type == "cuda" else _missing_cpp_compiler()) is not None:
        return missing
    # What is built, on a GPU the launchers of its kernels, is a Python extension.
    if not any((Path(folder) / "Python.h").is_file() for folder in _include_folders()):
        return f"no Python.h found in {sysconfig.get_path('include')} (the package python3-dev or python3-devel)"
    return None


def _missing_cpp_compiler() -> str | None:
    from torch._inductor import config, cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except (exc.InvalidCxxCompiler, RuntimeError):
        tried = ", ".join(name for name in config.cpp.cxx if name)
        return f"no C++ compiler found (tried {tried}; CXX names another)"
    return None


def _missing_triton() -> str | None:
    from torch.utils._triton import has_triton, has_triton_package

    if not has_triton_package():
        return "no Triton found (the package triton)"
    if not has_triton():
        return "Triton does not know this GPU, it needs compute capability 7.0 or newer"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "no C compiler found for Triton (tried gcc, clang; CC names another)"
    return None


def _include_folders() -> list[str]:
    """Where Python's headers may lie: macOS frameworks keep them elsewhere than sysconfig says."""
    return [sysconfig.get_path("include"), str(Path(sysconfig.get_path("stdlib")).parents[1] / "Headers")]

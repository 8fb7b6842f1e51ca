"""What the CPU of this machine is."""

import platform
from pathlib import Path

import torch


def processor_name() -> str:
    """The CPU's model, as well as the system knows it."""
    return _cpu_info("model name") or platform.processor() or platform.machine()


def bf16_instructions() -> str | None:
    """What this processor multiplies bf16 matrices with, `AMX` or `AVX512-BF16`; None where it has neither."""
    flags = _cpu_info("flags").split()  # for what this torch does not tell
    for name, flag, question in (
        ("AMX", "amx_bf16", "_is_amx_tile_supported"),
        ("AVX512-BF16", "avx512_bf16", "_is_avx512_bf16_supported"),
    ):
        ask = getattr(torch.cpu, question, None)
        if flag in flags if ask is None else ask():
            return name
    return None


def _cpu_info(key: str) -> str:
    """The value of `key` for the first core of /proc/cpuinfo; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")

"""Which instructions for bf16 a processor has."""

import pytest
import torch

from lightning_polycom.training import processor


@pytest.mark.parametrize(
    ("amx", "avx512", "expected"), [(True, True, "AMX"), (False, True, "AVX512-BF16"), (False, False, None)]
)
def test_bf16_instructions_are_those_that_torch_finds(monkeypatch, amx, avx512, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert processor.bf16_instructions() == expected


@pytest.mark.parametrize(
    ("flags", "expected"), [("fpu amx_bf16 avx512_bf16", "AMX"), ("fpu avx512_bf16", "AVX512-BF16"), ("fpu", None)]
)
def test_a_torch_that_does_not_tell_leaves_it_to_the_system(monkeypatch, flags, expected):
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    monkeypatch.setattr(processor, "_cpu_info", {"flags": flags}.__getitem__)
    assert processor.bf16_instructions() == expected

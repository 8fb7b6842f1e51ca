"""What is written down beside the numbers."""

from types import SimpleNamespace

import pytest
import torch

from lightning_polycom.benchmarking import machine


def test_the_line_of_a_cpu_names_processor_threads_and_malloc(monkeypatch):
    monkeypatch.setattr(machine, "has_malloc_settings", lambda: True)
    record = machine.machine_record("cpu")
    assert record["versions"]["torch"] == torch.__version__ and "gpu" not in record
    line = machine.machine_line(record)
    assert machine.processor_name() in line and f"{torch.get_num_threads()} thread" in line
    assert "MALLOC_MMAP_MAX_=0" in line
    monkeypatch.setattr(machine, "has_malloc_settings", lambda: False)
    assert "glibc's own malloc settings" in machine.machine_line(machine.machine_record("cpu"))


def test_the_line_of_a_gpu_says_what_the_modules_run_on(monkeypatch):
    properties = SimpleNamespace(name="Some GPU", total_memory=2**33, multi_processor_count=100)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    for has_triton, words in ((True, "are Triton kernels"), (False, "are plain torch")):
        monkeypatch.setattr(machine, "HAS_TRITON", has_triton)
        line = machine.machine_line(machine.machine_record("cuda"))
        assert line.startswith("Some GPU, CUDA ") and line.endswith(words)


@pytest.mark.parametrize(
    ("amx", "avx512", "expected"), [(True, True, "AMX"), (False, True, "AVX512-BF16"), (False, False, None)]
)
def test_bf16_instructions_are_those_that_torch_finds(monkeypatch, amx, avx512, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert machine.bf16_instructions() == expected
    assert machine.machine_record("cpu")["bf16_instructions"] == expected


@pytest.mark.parametrize(
    ("flags", "expected"), [("fpu amx_bf16 avx512_bf16", "AMX"), ("fpu avx512_bf16", "AVX512-BF16"), ("fpu", None)]
)
def test_a_torch_that_does_not_tell_leaves_it_to_the_system(monkeypatch, flags, expected):
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    monkeypatch.setattr(machine, "_cpu_info", {"flags": flags}.__getitem__)
    assert machine.bf16_instructions() == expected

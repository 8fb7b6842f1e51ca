"""What is written down beside the numbers."""

from types import SimpleNamespace

import torch

from lightning_polycom.benchmarking import machine
from lightning_polycom.training.processor import processor_name


def test_the_line_of_a_cpu_names_processor_threads_and_malloc(monkeypatch):
    monkeypatch.setattr(machine, "has_malloc_settings", lambda: True)
    record = machine.machine_record("cpu")
    assert record["versions"]["torch"] == torch.__version__ and "gpu" not in record
    line = machine.machine_line(record)
    assert processor_name() in line and f"{torch.get_num_threads()} thread" in line
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

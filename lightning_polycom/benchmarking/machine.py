"""The machine and the versions that measured numbers belong to."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from lightning_polycom.activations.kernels.dispatch import HAS_TRITON
from lightning_polycom.benchmarking.malloc_settings import MALLOC, has_malloc_settings
from lightning_polycom.training.processor import bf16_instructions, processor_name

PACKAGES = ("lightning-polycom", "torch", "triton", "liger-kernel", "numpy")


def machine_record(device: str) -> dict:
    """What the numbers depend on: processor or GPU, threads, malloc settings, versions."""
    record = {
        "device": device,
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16_instructions": bf16_instructions(),
        "threads": torch.get_num_threads(),
        "malloc_settings": MALLOC if has_malloc_settings() else None,
        "system": platform.platform(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        record["gpu"] = properties.name
        record["polynomials"] = "Triton kernels" if HAS_TRITON else "plain torch"
        record["gpu_memory_bytes"] = properties.total_memory
        record["gpu_multiprocessors"] = properties.multi_processor_count
        record["cuda"] = torch.version.cuda
    return record


def machine_line(record: dict) -> str:
    """The record's essence for a person."""
    versions = record["versions"]
    if record["device"] == "cuda":
        gpu = f"{record['gpu']}, CUDA {record['cuda']}; torch {versions['torch']}, triton {versions['triton']}"
        return f"{gpu}; the polynomial modules are {record['polynomials']}"
    malloc = record["malloc_settings"]
    settings = " ".join(f"{key}={value}" for key, value in malloc.items()) if malloc else "glibc's own malloc settings"
    instructions = " and ".join(filter(None, (record["vector_instructions"], record["bf16_instructions"])))
    threads = f"{record['threads']} thread{'s' if record['threads'] > 1 else ''}"
    return f"{record['processor']}, {instructions}, {threads}; torch {versions['torch']}; {settings}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

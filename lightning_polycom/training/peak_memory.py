"""The most memory that this process has used."""

import resource
import sys

import torch


def peak_memory_bytes(device: torch.device) -> int:
    """Peak bytes allocated on a CUDA device, or else the process' peak resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Linux counts kibibytes, macOS bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

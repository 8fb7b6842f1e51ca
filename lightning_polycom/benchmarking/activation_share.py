"""The activation of one run at its own size, as a share of what its memory traffic needs."""

import torch

from lightning_polycom.activations import build_activation
from lightning_polycom.benchmarking.activation_benchmark import measure_activation
from lightning_polycom.benchmarking.ceilings import DTYPES
from lightning_polycom.benchmarking.measurement import Group, Measurement
from lightning_polycom.benchmarking.stopwatch import Stopwatch
from lightning_polycom.model import DecoderConfig

# Of one tensor: more than a CPU's caches; and as much as a GPU, whose cache is emptied, needs to be busy.
MAX_TENSOR_BYTES = {"cpu": 2**26, "cuda": 2**28}
CONTRAST = "relu"


def measure_own_activation(
    config: DecoderConfig, tokens: int, kind: str, compiled: bool, stopwatch: Stopwatch
) -> Group:
    """Forward and backward of the run's activation, and of ReLU beside it.

    Args:
        config: Names the activation; coefficients per expert count as one set.
        tokens: Of a forward pass. In a mixture each has the rows of its experts.
        kind: Of the run's matrix products, whose results are what an activation reads.
        compiled: Whether the run compiles its blocks; the activation is then compiled too.
        stopwatch: Its device is the one that is measured.
    """
    mixture, width, dtype = config.mixture_of_experts, config.feed_forward_size, DTYPES[kind]
    rows = tokens * (1 if mixture is None else mixture.experts_per_token)
    rows = max(1, min(rows, MAX_TENSOR_BYTES[stopwatch.device] // (width * dtype.itemsize)))
    torch.manual_seed(0)
    x, up, g = (torch.randn(rows, width, device=stopwatch.device).to(dtype) for _ in range(3))
    clock = stopwatch.clock
    group = Group(stopwatch.device, str(dtype).removeprefix("torch."), rows, width, clock.yardstick(x, g))
    way = "module_compiled" if compiled else "module"
    for name, activation in {CONTRAST: CONTRAST, config.activation.name: config.shared_activation}.items():
        module = build_activation(activation, width=width).to(stopwatch.device)
        inputs = [t.requires_grad_() for t in ((x, up) if module.gated else (x,))]
        found = measure_activation(name, way, module, inputs, g, clock)
        (group.measurements if isinstance(found, Measurement) else group.skipped).append(found)
    return group

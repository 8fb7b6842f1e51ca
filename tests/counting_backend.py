"""A torch.compile backend that counts the graphs it is given; quick, because it builds no code."""

from collections.abc import Callable

import torch


class CountingBackend:
    """Traces forward and backward as the real backend does, decides what to keep for backward, and runs eagerly."""

    def __init__(self) -> None:
        self.graphs = 0
        self._backend: Callable = torch._dynamo.lookup_backend("aot_eager_decomp_partition")

    def __call__(self, graph: torch.fx.GraphModule, example_inputs: list[torch.Tensor]) -> Callable:
        self.graphs += 1
        return self._backend(graph, example_inputs)

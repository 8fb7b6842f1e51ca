"""Attention under compilation: what it is made of, and that it computes the same."""

import pytest
import torch

from lightning_polycom.model.attention import Attention
from lightning_polycom.model.config import DecoderConfig
from lightning_polycom.model.rotary import rotary_table


@pytest.mark.parametrize("key_value_heads", [4, 2])
def test_compiled_it_makes_one_product_of_query_key_and_value(key_value_heads):
    torch.manual_seed(0)
    attention = Attention(DecoderConfig(61, 32, 1, 4, 64, num_key_value_heads=key_value_heads))
    x, table = torch.randn(2, 9, 32), rotary_table(torch.arange(9), 8, 10000.0)
    products = []

    def backend(graph, _):
        products.append(sum(node.target is torch.nn.functional.linear for node in graph.graph.nodes))
        return graph

    eager = gradients(attention, attention(x, table))
    compiled = gradients(attention, torch.compile(attention, backend=backend, fullgraph=True)(x, table))
    assert products == [2]  # with the output's
    for name, expected in eager.items():
        torch.testing.assert_close(compiled[name], expected, rtol=1e-5, atol=1e-6, msg=name)


def gradients(module, output):
    module.zero_grad()
    output.square().sum().backward()
    return {name: parameter.grad.clone() for name, parameter in module.named_parameters()}

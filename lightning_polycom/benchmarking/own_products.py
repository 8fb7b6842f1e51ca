"""The matrix products of one decoder, each by itself: what a layer of that shape reaches on this machine."""

from typing import NamedTuple

import torch
from torch.nn import functional as F

from lightning_polycom.benchmarking.ceilings import DTYPES
from lightning_polycom.benchmarking.stopwatch import Stopwatch
from lightning_polycom.model import DecoderConfig
from lightning_polycom.model.mixture_of_experts.grouped_product import grouped_linear

MAX_RESULT_BYTES = 2**28  # a vocabulary's logits are formed in parts too


class Product(NamedTuple):
    """`count` products of (rows, inner) with (inner, outer) in one forward pass.

    With `groups` the rows are those of so many experts, each with a matrix of its own, in one call.
    """

    name: str
    rows: int
    inner: int
    outer: int
    count: int
    groups: int = 1

    @property
    def flops(self) -> int:
        """Of one of them."""
        return 2 * self.rows * self.inner * self.outer


class MeasuredProduct(NamedTuple):
    """A product, the rows that were timed, and their FLOP/s."""

    product: Product
    rows: int
    flops_per_second: float


def products_of(config: DecoderConfig, tokens: int) -> list[Product]:
    """The products of a forward pass over `tokens` tokens; those of equal shape are one entry. Routers are left out."""
    hidden, layers = config.hidden_size, config.num_layers
    key_value = config.key_value_heads * config.head_size
    found = [("query, output", tokens, hidden, hidden, 2 * layers, 1)]
    found.append(("key, value", tokens, hidden, key_value, 2 * layers, 1))
    into = 2 if config.is_gated else 1
    up = "gate, up" if config.is_gated else "up"
    for size, share, groups, of in _feed_forwards(config):
        rows = tokens * share
        found.append((f"{of}{up}", rows, hidden, size, into * layers, groups))
        found.append((f"{of}down", rows, size, hidden, layers, groups))
    found.append(("head", tokens, hidden, config.vocab_size, 1, 1))
    return _joined([Product(*entry) for entry in found])


def measure_products(stopwatch: Stopwatch, products: list[Product], kind: str) -> list[MeasuredProduct]:
    """Times every product as a linear layer computes it; a result too large for the memory is cut to fewer rows."""
    return [_measured(stopwatch, product, DTYPES[kind]) for product in products]


def flops_per_second(measured: list[MeasuredProduct]) -> float:
    """Of all products of a forward pass, one after the other."""
    total = sum(found.product.flops * found.product.count for found in measured)
    return total / sum(found.product.flops * found.product.count / found.flops_per_second for found in measured)


def _feed_forwards(config: DecoderConfig) -> list[tuple[int, int, int, str]]:
    """Width, rows of a token, experts and name of each kind of feed-forward."""
    mixture = config.mixture_of_experts
    if mixture is None:
        return [(config.feed_forward_size, 1, 1, "")]
    found = [(config.feed_forward_size, mixture.experts_per_token, mixture.num_experts, "experts' ")]
    if config.shared_feed_forward_size:
        found.append((config.shared_feed_forward_size, 1, 1, "shared expert's "))
    return found


def _joined(products: list[Product]) -> list[Product]:
    joined: dict[tuple, Product] = {}
    for product in products:
        key = (product.rows, product.inner, product.outer, product.groups)
        before = joined.get(key)
        if before is None:
            joined[key] = product
        else:
            joined[key] = product._replace(name=f"{before.name}, {product.name}", count=before.count + product.count)
    return list(joined.values())


def _measured(stopwatch: Stopwatch, product: Product, dtype: torch.dtype) -> MeasuredProduct:
    rows = max(1, min(product.rows, MAX_RESULT_BYTES // (product.outer * dtype.itemsize)))
    x = torch.randn(rows, product.inner, device=stopwatch.device).to(dtype)
    shape = (product.outer, product.inner) if product.groups == 1 else (product.groups, product.outer, product.inner)
    weight = torch.randn(shape, device=stopwatch.device).to(dtype)
    if product.groups == 1:
        seconds = stopwatch.seconds(lambda: F.linear(x, weight))
    else:
        ends = torch.linspace(0, rows, product.groups + 1, device=stopwatch.device)[1:].round().int()
        seconds = stopwatch.seconds(lambda: grouped_linear(x, weight, ends))
    return MeasuredProduct(product, rows, 2 * rows * product.inner * product.outer / seconds)

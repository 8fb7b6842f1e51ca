"""Ceilings and products: what is counted, on a stopwatch that tells given seconds, and that the real work runs."""

import pytest
import torch

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.benchmarking import ceilings, own_products
from lightning_polycom.benchmarking.own_products import MeasuredProduct, Product, products_of
from lightning_polycom.benchmarking.stopwatch import Stopwatch
from lightning_polycom.model import DecoderConfig
from lightning_polycom.model.mixture_of_experts import MixtureOfExpertsConfig

DENSE = DecoderConfig(64, 16, 3, 2, 48, ActivationConfig("polynorm"))
GATED = DecoderConfig(64, 16, 3, 2, 48, ActivationConfig("swiglu"), num_key_value_heads=1)
SPARSE = DecoderConfig(
    64, 16, 3, 2, 24, ActivationConfig("polynorm"), mixture_of_experts=MixtureOfExpertsConfig(4, experts_per_token=2)
)


class GivenSeconds(Stopwatch):
    """Runs what it times once, and says that it took half a second."""

    def __init__(self, device: str = "cpu"):
        self.device = device

    def seconds(self, run) -> float:
        run()
        return 0.5


def test_a_copy_counts_what_is_read_and_what_is_written():
    assert ceilings.copy_bandwidth(GivenSeconds(), 4096) == 2 * 4096 / 0.5


def test_every_kind_of_product_gets_its_fastest_size():
    found = ceilings.measure_ceilings(GivenSeconds(), 4096, (4, 8))
    assert found.products == {"fp32": 2 * 8**3 / 0.5, "bf16": 2 * 8**3 / 0.5}


def test_a_faster_product_raises_its_ceiling_alone():
    found = ceilings.Ceilings(1.0, {"fp32": 10.0, "bf16": 20.0})
    assert found.raised("fp32", 12.0).products == {"fp32": 12.0, "bf16": 20.0}
    assert found.raised("bf16", 12.0) == found


def test_the_kind_follows_the_precision_and_a_gpu_that_is_told_to_use_tf32():
    assert ceilings.product_kind("bf16-mixed", "cuda") == "bf16"
    assert ceilings.product_kind("32-true", "cuda") == "fp32"
    with ceilings.tf32(True):
        assert ceilings.product_kind("32-true", "cuda") == "tf32" and ceilings.product_kind("32-true", "cpu") == "fp32"
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("config", [DENSE, GATED, SPARSE])
def test_the_products_of_a_token_are_those_that_palm_counts(config):
    found = products_of(config, 10)
    counted = sum(product.flops * product.count for product in found)
    mixture = config.mixture_of_experts
    router = 0 if mixture is None else config.num_layers * mixture.num_experts * config.hidden_size
    assert counted == 10 * 2 * (config.num_active_matrix_parameters - router)


def test_products_of_equal_shape_are_one():
    assert [(p.name, p.inner, p.outer, p.count) for p in products_of(DENSE, 10)] == [
        ("query, output, key, value", 16, 16, 12),
        ("up", 16, 48, 3),
        ("down", 48, 16, 3),
        ("head", 16, 64, 1),
    ]
    assert [(p.name, p.rows, p.groups) for p in products_of(SPARSE, 10)][1:3] == [
        ("experts' up", 20, 4),
        ("experts' down", 20, 4),
    ]


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_products_are_computed_as_layers_and_experts_do(kind):
    for found in own_products.measure_products(Stopwatch("cpu", 1), products_of(SPARSE, 8), kind):
        assert found.flops_per_second > 0 and found.rows == found.product.rows


def test_a_large_result_is_cut_to_fewer_rows(monkeypatch):
    monkeypatch.setattr(own_products, "MAX_RESULT_BYTES", 64 * 4 * 3)
    (found,) = own_products.measure_products(GivenSeconds(), [Product("head", 10, 16, 64, 1)], "fp32")
    assert found.rows == 3 and found.flops_per_second == 2 * 3 * 16 * 64 / 0.5


def test_all_products_together_take_the_sum_of_their_times():
    half, whole = Product("half", 1, 1, 500, 2), Product("whole", 1, 1, 500, 1)  # 2,000 and 1,000 FLOPs
    found = [MeasuredProduct(half, 1, 1000.0), MeasuredProduct(whole, 1, 500.0)]  # 2 seconds each
    assert own_products.flops_per_second(found) == 3000 / 4

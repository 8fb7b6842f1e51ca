import math
import pickle

import numpy as np
import pytest
import torch

from lightning_polycom.analysis import value_statistics
from lightning_polycom.analysis.value_statistics import QUANTILE_ERROR, ValueStatistics, overflow_headroom_bits


def kinds() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    normal = torch.randn(30_000, generator=random)
    return {
        "normal": normal,
        "rectified": normal.relu(),
        "shifted": 5 + 0.1 * normal,
        "cubed": normal**3,
        "many sizes": normal * torch.logspace(-6, 6, 30_000),
        "bf16": normal.bfloat16(),
        "fp64": normal.double() * 1e-3,
        "few": torch.tensor([3.0, -1.0, 2.0]),
    }


@pytest.mark.parametrize("kind", kinds())
def test_the_same_as_numpy_whatever_the_pieces(kind, monkeypatch):
    monkeypatch.setattr(value_statistics, "CHUNK", 4096)
    values = kinds()[kind]
    statistics = ValueStatistics()
    for piece in values.split(7001):
        statistics.add(piece.reshape(1, -1))
    x = values.double().numpy()
    found = statistics.summary()
    assert found["count"] == x.size and found["zero_fraction"] == (x == 0).mean()
    assert found["max_abs"] == np.abs(x).max() and found["not_finite_fraction"] == 0
    assert found["mean"] == pytest.approx(x.mean(), abs=1e-12 * np.abs(x).max())
    assert found["std"] == pytest.approx(x.std(), rel=1e-10)
    centred = x - x.mean()
    assert found["kurtosis"] == pytest.approx((centred**4).mean() / (centred**2).mean() ** 2, rel=1e-9)
    for probability, value in found["quantiles"].items():
        exact = np.quantile(x, float(probability), method="inverted_cdf")
        assert abs(value - exact) <= QUANTILE_ERROR * abs(exact), probability


def test_merged_statistics_are_those_of_all_values():
    values = kinds()["cubed"]
    whole, parts = ValueStatistics(), ValueStatistics()
    whole.add(values)
    for piece in values.tensor_split([0, 10, 20_000]):
        part = ValueStatistics()
        part.add(piece)
        parts.merge(pickle.loads(pickle.dumps(part)))
    one, many = whole.summary(), parts.summary()
    assert one.pop("quantiles") == many.pop("quantiles")
    assert many == pytest.approx(one, rel=1e-10)


def test_a_pickled_one_is_small():
    statistics = ValueStatistics()
    statistics.add(kinds()["normal"])
    assert len(pickle.dumps(statistics)) < 150_000


def test_what_is_not_finite_is_counted_apart():
    statistics = ValueStatistics()
    statistics.add(torch.tensor([1.0, math.inf, 0.0, math.nan, -2.0]))
    found = statistics.summary()
    assert found["not_finite_fraction"] == 0.4 and found["count"] == 3 and found["zero_fraction"] == 1 / 3
    assert found["max_abs"] == 2 and found["quantiles"]["0.5"] == 0


def test_nothing_to_say():
    found = ValueStatistics().summary()
    assert found["count"] == 0 and math.isnan(found["mean"]) and math.isnan(found["quantiles"]["0.5"])
    constant = ValueStatistics()
    constant.add(torch.full((1000,), 3.7))
    assert math.isnan(constant.kurtosis) and constant.quantiles()[0.5] == pytest.approx(3.7)


@pytest.mark.parametrize("format_", [torch.float16, torch.bfloat16])
def test_headroom_is_where_the_power_overflows(format_):
    name, largest = str(format_).removeprefix("torch."), torch.finfo(format_).max
    for power in (1, 2, 3):
        edge = largest ** (1 / power)
        assert overflow_headroom_bits(edge, power)[name] == pytest.approx(0, abs=1e-9)
        assert overflow_headroom_bits(edge / 2, power)[name] == pytest.approx(power)
        assert torch.tensor(edge * 1.01, dtype=torch.double).pow(power).to(format_).isinf()
        assert overflow_headroom_bits(edge * 1.01, power)[name] < 0
    assert overflow_headroom_bits(0.0, 2)[name] == math.inf

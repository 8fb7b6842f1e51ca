import time

import numpy as np
import pytest

from lightning_polycom.data.order import SampleOrder, permute


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 64, 1000, 4097])
@pytest.mark.parametrize("key", [0, 1, 2**64 - 1])
def test_permute_is_a_bijection(size, key):
    values = permute(np.arange(size), size, key)
    assert values.dtype == np.int64
    np.testing.assert_array_equal(np.sort(values), np.arange(size))


@pytest.mark.parametrize("size", [2**40 + 1, 2**62 - 1, 2**62])
def test_permute_stays_in_range_and_collides_nowhere_at_huge_sizes(size):
    positions = np.concatenate([np.arange(5000), size - 1 - np.arange(5000)])
    values = permute(positions, size, 7)
    assert values.min() >= 0 and values.max() < size
    assert len(np.unique(values)) == 10_000
    assert values.max() > size // 2 > values.min()


def test_permute_keeps_the_shape_and_rejects_what_lies_outside():
    positions = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(permute(positions, 100, 3).reshape(-1), permute(positions.reshape(-1), 100, 3))
    for bad in ([-1], [100]):
        with pytest.raises(ValueError, match="positions"):
            permute(np.array(bad), 100, 3)
    for size in (0, 2**62 + 1):
        with pytest.raises(ValueError, match="size"):
            permute(np.array([0]), size, 3)


def test_every_position_is_uniform_over_keys():
    size, keys = 10, 1500
    counts = np.zeros((size, size))
    for key in range(keys):
        counts[np.arange(size), permute(np.arange(size), size, key * 0x9E3779B97F4A7C15 % 2**64)] += 1
    chi_square = ((counts - keys / size) ** 2 / (keys / size)).sum()
    degrees = (size - 1) ** 2
    assert chi_square < degrees + 5 * np.sqrt(2 * degrees)


@pytest.mark.parametrize("size", [1000, 4097, 65_536])
def test_neighbours_are_not_correlated(size):
    values = permute(np.arange(size), size, 11)
    bound = 4 / np.sqrt(size)
    assert abs(np.corrcoef(np.arange(size), values)[0, 1]) < bound
    for lag in (1, 2, 16):
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < bound
    steps = np.unique(np.diff(values) % size, return_counts=True)[1]
    assert steps.max() < 20  # an affine map would repeat one step


def test_each_epoch_has_every_sample_once_in_an_order_of_its_own():
    order = SampleOrder(1000, seed=1, fingerprint="abc")
    epochs = order.indices(0, 3000).reshape(3, 1000)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(1000))
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert (epochs[one] == epochs[other]).sum() < 10


@pytest.mark.parametrize(("seed", "fingerprint"), [(2, "abc"), (1, "abd")])
def test_seed_and_fingerprint_change_the_order(seed, fingerprint):
    reference = SampleOrder(1000, 1, "abc").indices(0, 1000)
    assert (reference == SampleOrder(1000, seed, fingerprint).indices(0, 1000)).sum() < 10


@pytest.mark.parametrize("num_samples", [1, 7, 100])
def test_the_stream_does_not_depend_on_how_it_is_cut(num_samples):
    order = SampleOrder(num_samples, 3, "x")
    whole = order.indices(0, 250)
    for chunk in (1, 3, 16, 99):
        parts = [order.indices(start, min(chunk, 250 - start)) for start in range(0, 250, chunk)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert order.indices(5, 0).shape == (0,)


def test_the_order_is_pinned():
    # Another order under the same seed would silently change what a resumed run trains on.
    assert SampleOrder(1_000_000, 1234, "pinned").indices(999_998, 4).tolist() == [129369, 560019, 891062, 248858]


def test_speed_at_a_trillion_samples():
    order = SampleOrder(10**12, 1, "x")
    started = time.perf_counter()
    order.indices(10**11, 1_000_000)
    assert time.perf_counter() - started < 5


def test_no_samples_are_an_error():
    with pytest.raises(ValueError, match="num_samples"):
        SampleOrder(0, 1, "x")

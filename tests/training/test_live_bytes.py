import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from lightning_polycom.training.live_bytes import LiveBytes, peak_bytes

MIB = 2**20


def mib(count: int = 1) -> torch.Tensor:
    return torch.ones(count * MIB // 4)


def test_counts_what_is_alive_together():
    def run():
        x = mib(2)
        del x
        y = mib(3)
        y.view(-1, 4)[:, 1].add_(1)  # views and in-place operations take nothing
        mib(4)

    assert peak_bytes(run) == 7 * MIB


def test_counts_what_autograd_keeps_and_what_was_held_before():
    weight = torch.ones(MIB // 4, requires_grad=True)
    # The weight, the exponential that backward needs, and the weight's gradient; besides them a few scalars.
    assert 0 <= peak_bytes(lambda: weight.exp().sum().backward(), [weight]) - 3 * MIB < 64
    assert peak_bytes(lambda: weight.detach().exp(), [weight]) == 2 * MIB


def test_sees_the_whole_logits_of_a_cross_entropy():
    hidden, weight = torch.randn(1024, 8), torch.randn(1024, 8, requires_grad=True)
    run = lambda: F.cross_entropy(F.linear(hidden, weight), torch.arange(1024)).backward()  # noqa: E731
    assert 8 * MIB <= peak_bytes(run) <= 13 * MIB  # logits, their log-softmax, its gradient; a little besides


@pytest.mark.parametrize("tensors", ["meta", "fake"])
def test_counts_tensors_without_values(tensors):
    def run():
        weight = torch.empty(MIB // 4, requires_grad=True)
        for _ in range(3):  # freed and made again: nothing is counted twice, whatever address it gets
            weight.grad = None
            weight.exp().sum().backward()

    with torch.device("meta") if tensors == "meta" else FakeTensorMode():
        assert 0 <= peak_bytes(run) - 3 * MIB < 64


def test_follows_a_storage_that_is_resized():
    with LiveBytes() as counted:
        x = mib(2)
        x.untyped_storage().resize_(0)
        mib(1)
        assert (counted.now, counted.peak) == (0, 2 * MIB)
        x.untyped_storage().resize_(3 * MIB)
        assert (counted.now, counted.peak) == (3 * MIB, 3 * MIB)
    del x
    assert counted.now == 0


def test_says_what_the_peak_was_made_of():
    held = mib()
    with LiveBytes([held]) as counted:
        counted.kind = "first"
        x = mib(2)
        counted.kind = "second"
        y = mib(3)
        counted.count(y, "other")
        z = mib(1)
        del x, y, z
        mib(1)
    assert counted.at_peak == {"held": MIB, "first": 2 * MIB, "other": 3 * MIB, "second": MIB}
    assert +counted.by_kind == {"held": MIB}

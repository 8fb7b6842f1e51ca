import torch
from torch.nn import functional as F

from lightning_polycom.training.live_bytes import peak_bytes

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

"""ReLU that is as fast compiled for a CPU as it is eager."""

import torch
from torch import Tensor
from torch.nn import functional as F


class _ReLUOfItsOutput(torch.autograd.Function):
    """Keeps y and multiplies by its sign."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        y = F.relu(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_y: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad_y * y.sign()


def relu(x: Tensor) -> Tensor:
    """max(x, 0), shaped like `x`.

    Compiled for a CPU, torch keeps the mask of its own ReLU as booleans and writes them one by one, at twenty times
    the cost of the activation and a fifth of a training step. There an infinite gradient of a 0 gives nan, not 0.
    """
    if torch.compiler.is_compiling() and x.device.type == "cpu":
        return _ReLUOfItsOutput.apply(x)
    return F.relu(x)

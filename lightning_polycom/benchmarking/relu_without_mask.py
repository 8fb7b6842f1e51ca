"""ReLU as fast compiled as eager: a fair baseline where torch's own is not."""

import torch
from torch import Tensor

from lightning_polycom.activations import Activation


class _Function(torch.autograd.Function):
    """Keeps y and multiplies by its sign."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        y = torch.relu(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_y: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad_y * y.sign()


class ReLUWithoutMask(Activation):
    """max(x, 0), which keeps its output for backward.

    Compiled for a CPU, torch 2.13 keeps the mask of `torch.relu` as booleans and writes them one by one, which takes
    twenty times as long as the activation.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same shape and dtype."""
        return _Function.apply(x)

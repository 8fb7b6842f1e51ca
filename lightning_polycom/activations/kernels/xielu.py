"""xIELU whose backward keeps the input and nothing else of its size."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_polycom.activations import functional


class XIELUFunction(torch.autograd.Function):
    """`functional.xielu`, with the derivative written out."""

    @staticmethod
    def forward(ctx, x: Tensor, alpha_positive: Tensor, alpha_negative: Tensor, beta: float) -> Tensor:
        """(..., width) -> same shape and dtype; the alphas are (1,)."""
        ctx.save_for_backward(x, alpha_positive, alpha_negative)
        ctx.beta = beta
        return functional.xielu(x, alpha_positive, alpha_negative, beta)

    @staticmethod
    def backward(ctx, grad_y: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of x and of the two alphas."""
        x, alpha_positive, alpha_negative = ctx.saved_tensors
        z, g = x.to(functional.accumulation_dtype(x)), grad_y.to(functional.accumulation_dtype(x))
        positive, negative = F.relu(z), z.clamp(max=0)
        slope = 2 * alpha_positive * positive + alpha_negative * torch.expm1(negative) + ctx.beta
        share_positive = (g * positive.square()).sum().reshape(alpha_positive.shape)
        share_negative = (g * (torch.expm1(negative) - negative)).sum().reshape(alpha_negative.shape)
        return (
            (g * slope).to(x.dtype),
            share_positive.to(alpha_positive.dtype),
            share_negative.to(alpha_negative.dtype),
            None,
        )

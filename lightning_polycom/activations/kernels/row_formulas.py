"""Forward and backward of all polynomial activations on a block of rows, in sums per row.

With z = base(x), where base is the identity, ReLU or PReLU, and per row of width D

    r_p = (mean(z^2p) + eps)^(-1/2)   if the powers are normalised, else 1         c_p = a_p r_p

the value, optionally gated by u, and the gradients for g = dL/dy are

    y   = (b + sum_p c_p z^p) u                     du = g y / u      then g <- g u
    T_p = sum_j g_j z_j^p                           da_p = sum_rows r_p T_p        db = sum g
    k_p = (p / D) r_p^3 sum_j a_p g_j z_j^p         (0 if not normalised)
    dz  = g sum_p p c_p z^(p-1)  -  sum_p k_p z^(2p-1)        dx = base'(x) dz

Everything here is in the accumulation dtype; `a` is a list over the powers of tensors that broadcast against rows:
() for one number a layer, (width,) for one a channel.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Base = Literal["identity", "relu", "prelu"]


def apply_base(x: Tensor, base: Base, slope: Tensor | None) -> Tensor:
    """z = base(x); nan stays nan."""
    if base == "relu":
        return torch.relu(x)
    if base == "prelu":
        return torch.where(x > 0, x, slope * x)
    return x


def horner(z: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    """sum_p c_p z^(p-1): a new tensor shaped like `z`."""
    if len(coefficients) == 1:
        return coefficients[0].expand_as(z).clone()
    y = z * coefficients[-1]
    for c in coefficients[-2:0:-1]:
        y.add_(c).mul_(z)
    return y.add_(coefficients[0])


def inverse_norms(z: Tensor, order: int, eps: float) -> list[Tensor]:
    """r_p for p = 1..order, each (rows, 1)."""
    norms, power = [], z
    for p in range(order):
        power = power if p == 0 else power * z
        mean_square = torch.linalg.vector_norm(power, dim=1, keepdim=True).square() / max(1, z.shape[1])
        norms.append((mean_square + eps).rsqrt())
    return norms


def value(z: Tensor, a: Sequence[Tensor], bias: Tensor | None, norms: Sequence[Tensor] | None) -> Tensor:
    """b + sum_p c_p z^p: a new tensor shaped like `z`."""
    c = a if norms is None else [r * a_p for r, a_p in zip(norms, a, strict=True)]
    y = horner(z, c).mul_(z)
    return y if bias is None else y.add_(bias)


def projections(
    g: Tensor, z: Tensor, a: Sequence[Tensor], norms: Sequence[Tensor] | None
) -> tuple[Tensor, list[Tensor]]:
    """Partial sums for the gradients of bias and coefficients, and sum_j a_p g_j z_j^p per row and power.

    The partials are (rows, order + 1) for one coefficient a layer and (1, order + 1, width) for one a channel, with
    the bias first; the caller adds them up over the first axis.
    """
    by_channel, product = a[0].ndim > 0, g
    partials, pulls = [g.sum(0, keepdim=True) if by_channel else g.sum(1)], []
    for p, a_p in enumerate(a):
        product = product * z
        r = None if norms is None else norms[p]
        if by_channel:
            partials.append((product if r is None else product * r).sum(0, keepdim=True))
            pulls.append((product * a_p).sum(1, keepdim=True))
        else:
            total = product.sum(1, keepdim=True)
            partials.append((total if r is None else r * total).squeeze(1))
            pulls.append(a_p * total)
    return torch.stack(partials, dim=1), pulls


def base_argument_gradient(
    g: Tensor, z: Tensor, a: Sequence[Tensor], norms: Sequence[Tensor] | None, pulls: Sequence[Tensor] | None
) -> Tensor:
    """dz; `norms` and `pulls` are None if the powers are not normalised."""
    if norms is None:
        return horner(z, [p * a_p for p, a_p in enumerate(a, start=1)]).mul_(g)
    slopes = [p * (r * a_p) for p, (r, a_p) in enumerate(zip(norms, a, strict=True), start=1)]
    # From left to right: r^3 alone underflows in fp32 for rows of 1e4 at order 4, its product with the sum does not.
    width = max(1, z.shape[1])
    k = [pull * r * r * r * (p / width) for p, (r, pull) in enumerate(zip(norms, pulls, strict=True), start=1)]
    return horner(z, slopes).mul_(g).sub_(horner(z * z, k).mul_(z))


def base_gradient(dz: Tensor, x: Tensor, base: Base, slope: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """dx, and the slope's partial sums (rows,) for PReLU."""
    if base == "relu":
        return torch.ops.aten.threshold_backward(dz, x, 0), None
    if base == "prelu":
        positive = x > 0
        below = torch.where(positive, 0, dz * x).sum(1)
        return torch.where(positive, dz, slope * dz), below
    return dz, None

"""Forward and backward of all polynomial activations on a block of rows, in sums per row.

With z = base(x), where base is the identity, ReLU or PReLU, and per row of width D

    r_p = (mean(z^2p) + eps)^(-1/2)   if the powers are normalised, else 1         c_p = a_p r_p

the value, optionally gated by u, and the gradients for g = dL/dy are

    y   = (b + sum_p c_p z^p) u                     du = g y / u      then g <- g u
    T_p = sum_j g_j z_j^p                           da_p = sum_rows r_p T_p        db = sum g
    k_p = (p / D) r_p^3 sum_j a_p g_j z_j^p         (0 if not normalised)
    dz  = g sum_p p c_p z^(p-1)  -  sum_p k_p z^(2p-1)        dx = base'(x) dz

Everything here is in the accumulation dtype; `a` is a list over the powers of tensors that broadcast against rows:
() for one number a layer, (rows, 1) for one an expert, (width,) for one a channel. Numbers of a row are put into one
(rows, n) tensor before they meet its elements: torch.compile then loads them in its inner loop, where it would
compute them again for every few elements.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

Base = Literal["identity", "relu", "prelu"]
Scope = Literal["layer", "expert", "channel"]

# torch.compile sums longer rows on CPU with compensation of its own, which costs more than all the rest.
LONGEST_COMPILED_SUM = 4096


def apply_base(x: Tensor, base: Base, slope: Tensor | None) -> Tensor:
    """z = base(x); nan stays nan."""
    if base == "relu":
        return torch.relu(x)
    if base == "prelu":
        return torch.relu(x).add_(x.clamp(max=0).mul_(slope))  # several times as fast on CPU as `where`
    return x


def horner(z: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    """sum_p c_p z^(p-1): a new tensor shaped like `z`."""
    if len(coefficients) == 1:
        return coefficients[0].expand_as(z).clone()
    y = z * coefficients[-1]
    for c in coefficients[-2:0:-1]:
        y.add_(c).mul_(z)
    return y.add_(coefficients[0])


def row_sum(t: Tensor) -> Tensor:
    """(rows, width) -> (rows, 1)."""
    rows, width = t.shape
    if not torch.compiler.is_compiling() or t.device.type != "cpu" or width <= LONGEST_COMPILED_SUM:
        return t.sum(1, keepdim=True)
    pieces = next((n for n in range(2, width // 64) if width % n == 0 and width // n <= LONGEST_COMPILED_SUM), 1)
    return t.reshape(rows, pieces, width // pieces).sum(2).sum(1, keepdim=True)


def inverse_norms(z: Tensor, order: int, eps: float) -> Tensor:
    """r_p for p = 1..order: (rows, order)."""
    norms, power = [], z
    for p in range(order):
        power = power if p == 0 else power * z
        if torch.compiler.is_compiling():
            square_sum = row_sum(power.square())
        else:  # the same in one pass and without a tensor in between
            square_sum = torch.linalg.vector_norm(power, dim=1, keepdim=True).square()
        norms.append((square_sum / max(1, z.shape[1]) + eps).rsqrt())
    return torch.cat(norms, 1)


def numbers_of_rows(numbers: Sequence[Tensor]) -> Sequence[Tensor]:
    """Puts tensors (rows, 1) into one; leaves those of other shapes, where coefficients are a channel's, alone."""
    return torch.cat(numbers, 1).split(1, dim=1) if numbers[0].shape[1:] == (1,) else numbers


def scaled(a: Sequence[Tensor], norms: Tensor | None) -> Sequence[Tensor]:
    """c_p = a_p r_p."""
    if norms is None:
        return a
    return numbers_of_rows([r * a_p for r, a_p in zip(norms.split(1, dim=1), a, strict=True)])


def value(z: Tensor, c: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    """b + sum_p c_p z^p: a new tensor shaped like `z`."""
    y = horner(z, c).mul_(z)
    return y if bias is None else y.add_(bias)


def projections(
    g: Tensor, z: Tensor, a: Sequence[Tensor], norms: Tensor | None, scope: Scope
) -> tuple[Tensor, Sequence[Tensor]]:
    """Shares of the gradients of bias and coefficients, and a_p T_p of every row if the powers are normalised.

    The shares, the bias's first, are to be added up over their first axis: (rows, order + 1), or (1, order + 1) where
    no number of a row is needed, or (1, order + 1, width) for coefficients of a channel.
    """
    if scope == "channel":
        return _channel_projections(g, z, a, norms)
    products = _products(g, z, len(a))
    if norms is None and scope == "layer":
        return torch.stack([product.sum() for product in products]).unsqueeze(0), ()
    sums = torch.cat([row_sum(product) for product in products], 1)
    if norms is None:
        return sums, ()
    pulls = [a_p * total for a_p, total in zip(a, sums[:, 1:].split(1, dim=1), strict=True)]
    return torch.cat([sums[:, :1], norms * sums[:, 1:]], 1), pulls


def elementwise_gradient(g: Tensor, z: Tensor, a: Sequence[Tensor]) -> Tensor:
    """dz of powers that are not normalised."""
    return horner(z, [p * a_p for p, a_p in enumerate(a, start=1)]).mul_(g)


def normalised_gradient(g: Tensor, z: Tensor, a: Sequence[Tensor], norms: Tensor, pulls: Sequence[Tensor]) -> Tensor:
    """dz of normalised powers, with the `pulls` of `projections`."""
    slopes = [p * c for p, c in enumerate(scaled(a, norms), start=1)]
    # From left to right: r^3 alone underflows in fp32 for rows of 1e4 at order 4, its product with the sum does not.
    r, width = norms.split(1, dim=1), max(1, z.shape[1])
    k = [pull * r[p] * r[p] * r[p] * ((p + 1) / width) for p, pull in enumerate(pulls)]
    k, slopes = numbers_of_rows(k), numbers_of_rows(slopes)
    return horner(z, slopes).mul_(g).sub_(horner(z * z, k).mul_(z))


def base_gradient(dz: Tensor, x: Tensor, base: Base, slope: Tensor | None) -> Tensor:
    """dx = base'(x) dz."""
    if base == "relu":
        return torch.ops.aten.threshold_backward(dz, x, 0)
    if base == "prelu":
        above = torch.ops.aten.threshold_backward(dz, x, 0)
        return (dz - above).mul_(slope).add_(above)
    return dz


def slope_share(dz: Tensor, x: Tensor, scope: Scope) -> Tensor:
    """Shares of the gradient of PReLU's slope, which all experts have in common: (rows,) or (1,)."""
    below = x.clamp(max=0).mul_(dz)
    return row_sum(below).squeeze(1) if scope == "expert" else below.sum().unsqueeze(0)


def _products(g: Tensor, z: Tensor, order: int) -> Iterator[Tensor]:
    """g z^p for p = 0..order."""
    product = g
    yield product
    for _ in range(order):
        product = product * z
        yield product


def _channel_projections(
    g: Tensor, z: Tensor, a: Sequence[Tensor], norms: Tensor | None
) -> tuple[Tensor, Sequence[Tensor]]:
    shares, pulls = [], []
    for p, product in enumerate(_products(g, z, len(a))):
        normalised = p > 0 and norms is not None
        shares.append((product * norms[:, p - 1 : p] if normalised else product).sum(0, keepdim=True))
        if normalised:
            pulls.append(row_sum(product * a[p - 1]))
    return torch.stack(shares, dim=1), pulls

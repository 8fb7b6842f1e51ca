"""The feed-forward activations of lightning_polycom as plain formulas; this file needs torch only.

Every one takes (..., width) and returns the same shape and dtype. Powers, means and sums are taken in fp32, because
bf16 has 8 bits. A gated activation is applied to the gate's output here; the feed-forward multiplies it with the up
branch.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GATED = {
    "swiglu": "silu",
    "geglu": "gelu",
    "reglu": "relu",
    "polynorm_glu": "polynorm",
    "polyrelu_glu": "polyrelu",
}
"""What a gated activation does to the gate."""


class Plain(nn.Module):
    """ReLU, ReLU squared, SiLU, or GELU, exact or with the tanh approximation."""

    def __init__(self, name: str, approximate: str = "none"):
        super().__init__()
        self.name, self.approximate = name, approximate

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same shape."""
        if self.name == "gelu":
            return F.gelu(x, approximate=self.approximate)
        if self.name == "silu":
            return F.silu(x)
        return F.relu(x) if self.name == "relu" else F.relu(x).square()


class XIELU(nn.Module):
    """xIELU (Huang and Schlag, 2025): alpha_p x^2 + x/2 above 0, alpha_n (exp(x) - 1 - x) + x/2 below.

    alpha_p = softplus(raw_alpha_positive), alpha_n = 1/2 + softplus(raw_alpha_negative).
    """

    beta = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.raw_alpha_positive = nn.Parameter(torch.empty(1))
        self.raw_alpha_negative = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Both curvatures to 0.8."""
        nn.init.constant_(self.raw_alpha_positive, math.log(math.expm1(0.8)))
        nn.init.constant_(self.raw_alpha_negative, math.log(math.expm1(0.8 - self.beta)))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same shape and dtype."""
        alpha_positive = F.softplus(self.raw_alpha_positive)
        alpha_negative = self.beta + F.softplus(self.raw_alpha_negative)
        z = x.float()
        negative = z.clamp(max=0)
        curved = alpha_positive * F.relu(z).square() + alpha_negative * (torch.expm1(negative) - negative)
        return (curved + self.beta * z).to(x.dtype)


class Polynomial(nn.Module):
    """bias + sum_p a_p z^p, or bias + sum_p a_p z^p / rms(z^p) for the names that end in `norm`.

    z is x, max(x, 0), or, for PolyPReLU, x above 0 and slope x below. rms is the root of the mean square over the last
    axis plus eps. `coefficients[p - 1]` belongs to power p: (order,) with scope `layer`, (order, width) with `channel`,
    (order, num_experts) with `expert`.
    """

    def __init__(
        self,
        name: str,
        sizes: dict[str, int],
        order: int = 3,
        coefficients: list[float] | None = None,
        bias: bool = True,
        eps: float = 1e-6,
        scope: str = "layer",
        sigmoid: bool = False,
        bias_limit: float | None = None,
        output_scale: float = 1.0,
        **training_options,
    ):
        super().__init__()
        self.normalised = name in ("polynorm", "polyrelunorm")
        self.rectified = name in ("polyrelu", "polyrelunorm")
        self.eps, self.sigmoid, self.bias_limit, self.output_scale = eps, sigmoid, bias_limit, output_scale
        self.initial = coefficients or ([0.5] if sigmoid and order == 1 else [1 / order] * order)
        sets = () if scope == "layer" else (sizes[scope],)
        self.coefficients = nn.Parameter(torch.empty(order, *sets))
        self.bias = nn.Parameter(torch.empty(sets or (1,))) if bias else None
        self.slope = nn.Parameter(torch.empty(1)) if name == "polyprelu" else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Coefficients to their initial values, bias to 0, PReLU's slope to 0.25."""
        initial = torch.tensor(self.initial)
        initial = initial.logit() if self.sigmoid else initial
        with torch.no_grad():
            self.coefficients.copy_(initial.reshape(-1, *[1] * (self.coefficients.ndim - 1)))
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        if self.slope is not None:
            nn.init.constant_(self.slope, 0.25)

    def forward(self, x: Tensor, expert: int | None = None) -> Tensor:
        """(..., width) -> same shape and dtype; with scope `expert` all of it is of the expert of that number."""
        coefficients, bias = self.coefficients, self.bias
        if expert is not None:
            coefficients = coefficients[:, expert]
            bias = None if bias is None else bias[expert]
        z = x.float()
        if self.rectified:
            z = F.relu(z)
        elif self.slope is not None:
            z = torch.where(z > 0, z, self.slope.float() * z)
        coefficients = coefficients.float().sigmoid() if self.sigmoid else coefficients.float()
        y = 0.0
        for p, a in enumerate(coefficients, start=1):
            power = z**p
            if self.normalised:
                power = power * torch.rsqrt(power.square().mean(-1, keepdim=True) + self.eps)
            y = y + a * power
        if bias is not None:
            bias = bias.float()
            y = y + (bias if self.bias_limit is None else bias.clamp(-self.bias_limit, self.bias_limit))
        return (y * self.output_scale).to(x.dtype)


def build_activation(options: dict, width: int, num_experts: int = 0) -> nn.Module:
    """The activation of a feed-forward of `width` channels from config.json's `activation`: `name`, and its options.

    `num_experts` is the number of experts that share it.
    """
    options = dict(options)
    name = options.pop("name")
    name = GATED.get(name, name)
    if name in ("relu", "relu2", "silu", "gelu"):
        return Plain(name, **options)
    if name == "xielu":
        return XIELU()
    if name in ("polyrelu", "polynorm", "polyprelu", "polyrelunorm"):
        return Polynomial(name, {"channel": width, "expert": num_experts}, **options)
    raise ValueError(f"config.json: unknown activation {name!r}")

"""What all polynomial activations share: their trained coefficients and the options on them."""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_polycom.activations.functional import floating
from lightning_polycom.activations.kernels.dispatch import polynomial
from lightning_polycom.activations.kernels.row_formulas import Base
from lightning_polycom.activations.modules.base import Activation
from lightning_polycom.errors import InputError

ORDERS = range(1, 5)


class PolynomialActivation(Activation):
    """bias + sum_p a_p base(x)^p, with the powers normalised per row or not, and gated or not.

    `coefficients`, ascending unlike the authors' files, has shape (order,): one set per layer, shared by all channels
    and tokens (paper section 2); with scope `channel` (order, width), with scope `expert` (order, num_experts). `bias`
    has shape (1,), (width,) or (num_experts,), or is None. Never 0-dimensional, because FSDP2 shards no such parameter,
    and fp32, because 1/3 in bf16 is off by 0.2%.

    Args:
        order: Highest power, 1 to 4.
        coefficients: Initial values, ascending; default 1/order each.
        bias: Whether there is a trained constant, starting at 0.
        scope: One set of coefficients and bias per `layer`, per `channel`, or per `expert` of a mixture. PReLU's
            slope is always the layer's.
        learning_rate_multiplier: Factor on the learning rate of coefficients and bias.
        frozen: Coefficients and bias keep their initial values.
        sigmoid: The parameter passes through a sigmoid, so that every coefficient stays between 0 and 1.
        bias_limit: The bias is clamped to plus or minus this in the forward pass.
        output_scale: Factor on the polynomial, before a gated one is multiplied with the up branch.
        width: Channels of the input; given by the model, needed for scope `channel`.
        num_experts: Experts that share this module; given by the model, needed for scope `expert`.

    Raises:
        InputError: an order outside 1 to 4, a number of initial coefficients other than the order, initial
            coefficients outside (0, 1) with `sigmoid`, or a scope that cannot be had.
    """

    base: ClassVar[Base] = "identity"
    initial_slope: ClassVar[float] = 0.25

    def __init__(
        self,
        order: int = 3,
        coefficients: tuple[float, ...] | None = None,
        bias: bool = True,
        scope: Literal["layer", "channel", "expert"] = "layer",
        learning_rate_multiplier: float = 1.0,
        frozen: bool = False,
        sigmoid: bool = False,
        bias_limit: float | None = None,
        output_scale: float = 1.0,
        width: int | None = None,
        num_experts: int | None = None,
    ):
        super().__init__()
        self.initial_coefficients = _initial_coefficients(order, coefficients, sigmoid)
        self.order, self.sigmoid = order, sigmoid
        self.bias_limit, self.output_scale = _bias_limit(bias_limit, bias), output_scale
        if not 0 < learning_rate_multiplier < math.inf:
            raise InputError(
                f"activation.learning_rate_multiplier: found {learning_rate_multiplier}; "
                "give a number above 0, or set frozen"
            )
        if not 0 < abs(output_scale) < math.inf:
            raise InputError(f"activation.output_scale: found {output_scale}; give a number other than 0")
        self.learning_rate_multiplier = learning_rate_multiplier
        sets, self.per_expert = _sets(scope, width, num_experts), scope == "expert"
        self.coefficients = nn.Parameter(torch.empty(order, *sets, dtype=torch.float32))
        self.bias = nn.Parameter(torch.empty(sets or (1,), dtype=torch.float32)) if bias else None
        self.slope = nn.Parameter(torch.empty(1, dtype=torch.float32)) if self.base == "prelu" else None
        if frozen:
            self.requires_grad_(False)
        self.reset_parameters()

    @property
    def highest_power(self) -> int:
        """The order."""
        return self.order

    @property
    def flops_per_element(self) -> int:
        """Forward and backward arithmetic of the row sums; the formulas are in `kernels.row_formulas`."""
        polynomial, derivative, projections = 2 * self.order, 2 * self.order - 1, 2 * self.order + 1
        norms, norm_gradient = (3 * self.order - 1, 2 * self.order + 2) if self.row_normalising else (0, 0)
        gate = polynomial + 3 if self.gated else 0
        base = {"identity": 0, "relu": 2, "prelu": 6}[self.base]
        return polynomial + derivative + projections + norms + norm_gradient + gate + base

    def reset_parameters(self) -> None:
        """Coefficients to their initial values (1/order by default), bias to 0, PReLU's slope to 0.25."""
        with torch.no_grad():
            initial = torch.tensor(self.initial_coefficients)
            initial = initial.logit() if self.sigmoid else initial
            self.coefficients.copy_(initial.reshape(-1, *[1] * (self.coefficients.ndim - 1)))
            if self.bias is not None:
                self.bias.zero_()
            if self.slope is not None:
                self.slope.fill_(self.initial_slope)

    def effective_coefficients(self) -> Tensor:
        """The coefficients as they enter the polynomial: after sigmoid and output scale; ascending."""
        a = self.coefficients.sigmoid() if self.sigmoid else self.coefficients
        return a if self.output_scale == 1 else a * self.output_scale

    def effective_bias(self) -> Tensor | None:
        """The constant as it enters the polynomial: after clamping and output scale."""
        b = self.bias
        if b is None:
            return None
        b = b if self.bias_limit is None else b.clamp(-self.bias_limit, self.bias_limit)
        return b if self.output_scale == 1 else b * self.output_scale

    def learned_values(self) -> dict[str, float]:
        """Effective coefficients, bias and PReLU slope; of coefficients per channel or expert the mean."""
        coefficients = self.effective_coefficients().detach().reshape(self.order, -1).mean(1).tolist()
        values = {f"coefficient_{power}": a for power, a in enumerate(coefficients, start=1)}
        if self.bias is not None:
            values["bias"] = self.effective_bias().mean().item()
        if self.slope is not None:
            values["slope"] = self.slope.item()
        return values

    def forward(self, x: Tensor, up: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        """(..., width) -> same shape and dtype; a gated one takes the gate's and the up-projection's output.

        With scope `expert` x is (rows, width), sorted by expert, and `offsets` (num_experts,) int32 are the ends of
        the experts' rows, as a grouped matrix product takes them. Rows after the last end are nobody's: their value
        and gradient mean nothing, and they give no gradient to any coefficient.

        Raises:
            InputError: an input that does not fit, or `offsets` without scope `expert` or the other way round.
        """
        self._check_inputs(x, up, offsets)
        eps = self.eps if self.row_normalising else None
        coefficients, bias = self.effective_coefficients(), self.effective_bias()
        return polynomial(x, up, coefficients, bias, self.slope, self.base, eps, offsets)

    def _check_inputs(self, x: Tensor, up: Tensor | None, offsets: Tensor | None) -> None:
        """Refuses what the kernels would read wrongly; looks at shapes and dtypes only, never at a value."""
        if floating(x).ndim == 0:
            raise InputError("activation: found a single number; give at least one dimension, the width")
        if self.gated != (up is not None):
            found, remedy = (
                ("one input", "give gate and up") if self.gated else ("two inputs", "it is not gated, give one")
            )
            raise InputError(f"activation: found {found}; {remedy}")
        if up is not None and (floating(up).shape != x.shape or up.dtype != x.dtype):
            raise InputError(
                f"activation: found gate {tuple(x.shape)} {x.dtype}, up {tuple(up.shape)} {up.dtype}; make them alike"
            )
        if self.per_expert != (offsets is not None):
            found, remedy = ("no offsets", "give") if self.per_expert else ("offsets", "leave out")
            raise InputError(f"activation: found {found}; {remedy} offsets, the ends of the experts' rows")
        num_experts = (self.coefficients.shape[-1],)
        if offsets is not None and (offsets.shape != num_experts or offsets.dtype not in (torch.int32, torch.int64)):
            raise InputError(
                f"activation: found offsets {tuple(offsets.shape)} {offsets.dtype}; give {num_experts}, int32 or int64"
            )

    def extra_repr(self) -> str:
        """Shows the order and whether there is a bias."""
        return f"order={self.order}, bias={self.bias is not None}"


def _initial_coefficients(order: int, coefficients: tuple[float, ...] | None, sigmoid: bool) -> tuple[float, ...]:
    if isinstance(order, bool) or not isinstance(order, int) or order not in ORDERS:
        raise InputError(f"activation.order: found {order}; the polynomial orders are 1 to 4")
    if coefficients is None:
        # 1 has no finite logit: a linear sigmoid one starts where the sigmoid is steepest.
        return (0.5,) if sigmoid and order == 1 else (1 / order,) * order
    if len(coefficients) != order:
        raise InputError(
            f"activation.coefficients: found {len(coefficients)} values for order {order}; "
            f"give {order}, ascending from the linear one"
        )
    if not all(map(math.isfinite, coefficients)):
        raise InputError(f"activation.coefficients: found {coefficients}; give finite numbers")
    if sigmoid and not all(0 < a < 1 for a in coefficients):
        raise InputError(f"activation.coefficients: found {coefficients} with sigmoid; give values between 0 and 1")
    return tuple(coefficients)


def _bias_limit(bias_limit: float | None, bias: bool) -> float | None:
    if bias_limit is not None and not bias:
        raise InputError("activation.bias_limit: there is no bias to limit; set bias to true or drop bias_limit")
    if bias_limit is not None and not 0 < bias_limit < math.inf:
        raise InputError(f"activation.bias_limit: found {bias_limit}; it must be above 0")
    return bias_limit


def _sets(scope: str, width: int | None, num_experts: int | None) -> tuple[int, ...]:
    """The shape of one power's coefficients."""
    if scope == "layer":
        return ()
    if scope == "channel":
        if width is None:
            raise InputError("activation.scope: 'channel' needs the width; build_activation(..., width=...)")
        return (width,)
    if scope != "expert":
        raise InputError(f"activation.scope: found '{scope}'; give layer, channel or expert")
    if num_experts is None:
        raise InputError("activation.scope: 'expert' needs a mixture of experts; this feed-forward is dense")
    return (num_experts,)

"""The activation as it is written in YAML."""

from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True)
class ActivationConfig:
    """Names an activation and sets its options; an option left at null takes the activation's own default.

    An option that the named activation does not have is an error, not ignored.

    Args:
        name: A name in the registry (`polycom fit --help` does not list them; a wrong name does), or the import
            path of a class of your own, such as `my_package.my_module.MyActivation`.
        order: Highest power of a polynomial activation. PolyReLU and PolyNorm: 3 (paper section 2).
        coefficients: Initial coefficients in ascending powers, `coefficients[p - 1]` for power p. Default 1/order each.
        bias: Whether a polynomial activation has the trainable constant term, starting at 0. Default true.
        eps: Added to the mean square inside the root of the normalised ones. Default 1e-6.
        scope: Whose own a polynomial's coefficients are: the `layer`'s (default), each `channel`'s, or, in a mixture
            of experts, each `expert`'s.
        learning_rate_multiplier: Factor on the learning rate of a polynomial's coefficients and bias. Default 1.
        frozen: A polynomial's coefficients and bias keep their initial values. Default false.
        sigmoid: A polynomial's coefficients pass through a sigmoid, so that they stay between 0 and 1; `coefficients`
            are still the values that the polynomial starts with. Default false.
        bias_limit: A polynomial's bias is clamped to plus or minus this. Default no limit.
        output_scale: Factor on the polynomial. Default 1.
        approximate: GELU and GeGLU: `none` (exact, the default) or `tanh`.
    """

    name: str = "polynorm"
    order: int | None = None
    coefficients: tuple[float, ...] | None = None
    bias: bool | None = None
    eps: float | None = None
    scope: Literal["layer", "channel", "expert"] | None = None
    learning_rate_multiplier: float | None = None
    frozen: bool | None = None
    sigmoid: bool | None = None
    bias_limit: float | None = None
    output_scale: float | None = None
    approximate: Literal["none", "tanh"] | None = None

    @property
    def options(self) -> dict:
        """The options that were set, as keyword arguments for the activation's class."""
        return {key: value for key, value in asdict(self).items() if key != "name" and value is not None}

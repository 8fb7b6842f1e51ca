"""The activation as it is written in YAML."""

from dataclasses import asdict, dataclass


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
        eps: Added to the mean square inside PolyNorm's root. Default 1e-6.
    """

    name: str = "polynorm"
    order: int | None = None
    coefficients: tuple[float, ...] | None = None
    bias: bool | None = None
    eps: float | None = None

    @property
    def options(self) -> dict:
        """The options that were set, as keyword arguments for the activation's class."""
        return {key: value for key, value in asdict(self).items() if key != "name" and value is not None}

"""What every activation declares about itself."""

from typing import ClassVar

from torch import nn


class Activation(nn.Module):
    """Base of all activations: the traits that the model and the cost accounting read.

    A module is called with the up-projection's output (..., width), or, if `gated`, with the gate's and the
    up-projection's output, and returns the same shape and dtype. Every parameter it holds is exempt from weight decay
    and is set by `reset_parameters`, never by the decoder's random initialization.

    Attributes:
        gated: Takes gate and up; the feed-forward then has three matrices.
        row_normalising: Reads a whole row before it can write an element of it.
        highest_power: Of the input, that the formula takes.
        flops_per_element: Arithmetic of forward and backward for one element, each operation and function counted as 1.
        learning_rate_multiplier: Factor on the learning rate of the module's own parameters.
        per_expert: Holds numbers for each expert of a mixture, and is called with the keyword `offsets`, the ends of
            the experts' rows.
    """

    gated: ClassVar[bool] = False
    row_normalising: ClassVar[bool] = False
    highest_power: int = 1
    flops_per_element: int = 2
    learning_rate_multiplier: float = 1.0
    per_expert: bool = False

    def __init__(self) -> None:
        super().__init__()

    @property
    def num_coefficients(self) -> int:
        """How many numbers the module learns, or holds frozen."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def passes_per_element(self) -> int:
        """Reads and writes of one value for one element of a fused forward and backward.

        Plain: read x, write y; read x and dy, write dx. Gated: read gate and up, write y; read gate, up and dy, write
        both their gradients.
        """
        return 8 if self.gated else 5

    def bytes_per_element(self, element_size: int) -> int:
        """Memory traffic of a fused forward and backward per element, for values of `element_size` bytes."""
        return self.passes_per_element * element_size

    def learned_values(self) -> dict[str, float]:
        """What to follow over training, by name, as it enters the formula; empty for activations that learn nothing."""
        return {}

    def reset_parameters(self) -> None:
        """Sets trainable coefficients to their initial values; nothing to do for most."""

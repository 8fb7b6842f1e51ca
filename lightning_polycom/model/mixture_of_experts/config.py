"""The shape of a mixture of experts."""

from dataclasses import dataclass

from lightning_polycom.errors import InputError


@dataclass(frozen=True)
class MixtureOfExpertsConfig:
    """Experts in place of every block's feed-forward; the decoder's intermediate_size is then the width of one expert.

    Args:
        num_experts: Experts of a layer.
        experts_per_token: Experts that each token goes to; no token is dropped.
        normalize_weights: Whether a token's weights are divided by their sum. OLMoE does not.
        shared_intermediate_size: Width, as of two matrices, of a feed-forward beside the experts that every token goes
            through; 0 is none.
        selection_bias: Whether each expert has a number that is added to its probability where experts are chosen,
            and only there. It is no parameter: training moves it against the load (`model.balancing`).
    """

    num_experts: int
    experts_per_token: int
    normalize_weights: bool = False
    shared_intermediate_size: int = 0
    selection_bias: bool = False

    def check(self) -> None:
        """Looks at the numbers when they are a decoder's; the command line would bury an error at construction.

        Raises:
            InputError: numbers that do not fit each other.
        """
        where = "decoder.mixture_of_experts"
        if self.num_experts < 1:
            raise InputError(f"{where}.num_experts: found {self.num_experts}; it must be at least 1")
        if not 1 <= self.experts_per_token <= self.num_experts:
            raise InputError(
                f"{where}.experts_per_token: found {self.experts_per_token}; give 1 to num_experts, {self.num_experts}"
            )
        if self.shared_intermediate_size < 0:
            raise InputError(
                f"{where}.shared_intermediate_size: found {self.shared_intermediate_size}; give a width, or 0 for none"
            )

"""The decoder's shape, and what follows from it: widths, parameters, FLOPs."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from lightning_polycom.activations import Activation, ActivationConfig, activation_class, build_activation
from lightning_polycom.errors import InputError
from lightning_polycom.model.mixture_of_experts.config import MixtureOfExpertsConfig


@dataclass(frozen=True)
class InitializationConfig:
    """How weight matrices start; norms start at 1, coefficients as their activation says.

    Args:
        distribution: `normal` (the paper's dense models) or `truncated_normal`, cut at 3 standard deviations (OLMoE).
        standard_deviation: Default sqrt(2 / (5 hidden_size)), the paper's dense value.
        scale_residual_outputs: Divides attention-out and feed-forward-out by sqrt(2 num_layers).
    """

    distribution: Literal["normal", "truncated_normal"] = "normal"
    standard_deviation: float | None = None
    scale_residual_outputs: bool = True


@dataclass(frozen=True)
class DecoderConfig:
    """A Llama-style decoder; every size that can be derived is derived here, not in YAML.

    Args:
        vocab_size: Rows of the embedding; at least the tokenizer's vocabulary.
        hidden_size: Width of the residual stream.
        num_layers: Number of blocks.
        num_heads: Query heads; the head size is hidden_size / num_heads.
        intermediate_size: Width of a feed-forward, or of one expert, of two matrices. A gated activation gets two
            thirds of it.
        activation: The feed-forward activation.
        num_key_value_heads: Key and value heads; default num_heads. Fewer are grouped-query attention.
        max_sequence_length: Longest context, in tokens.
        rope_theta: Base of the rotary positions.
        norm_eps: Added to the mean square inside RMSNorm's root.
        qk_norm: RMSNorm on queries and keys: none, over each `head`, or over the whole `width` (OLMoE).
        tie_embeddings: One matrix for embedding and output head.
        gated_size_multiple: A gated feed-forward's width is rounded to a multiple of this.
        recompute_activation: Computes the activation's output again in the backward pass instead of keeping it for
            the down-projection: less memory by one tensor of the feed-forward's width a layer, the same gradients. Of
            experts the down-projection is computed again with it.
        initialization: How the weights start.
        mixture_of_experts: Experts in place of every block's feed-forward; null is a dense decoder.

    Raises:
        InputError: sizes that do not fit each other.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    activation: ActivationConfig = field(default_factory=ActivationConfig)
    num_key_value_heads: int | None = None
    max_sequence_length: int = 4096
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    qk_norm: Literal["none", "head", "width"] = "none"
    tie_embeddings: bool = False
    gated_size_multiple: int = 8
    recompute_activation: bool = False
    initialization: InitializationConfig = field(default_factory=InitializationConfig)
    mixture_of_experts: MixtureOfExpertsConfig | None = None

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "num_layers",
            "num_heads",
            "intermediate_size",
            "max_sequence_length",
            "gated_size_multiple",
            "num_key_value_heads",
        ):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"decoder.{name}: found {getattr(self, name)}; it must be at least 1")
        if self.rope_theta <= 0 or self.norm_eps < 0:
            raise InputError(
                f"decoder.rope_theta, decoder.norm_eps: found {self.rope_theta} and {self.norm_eps}; "
                "give a positive base, and an eps of 0 or more"
            )
        if self.hidden_size % (2 * self.num_heads):
            raise InputError(
                f"decoder.num_heads: hidden_size {self.hidden_size} over {self.num_heads} heads is no even head size; "
                "choose num_heads so that hidden_size is a multiple of 2 * num_heads"
            )
        if self.num_heads % self.key_value_heads:
            raise InputError(
                f"decoder.num_key_value_heads: {self.key_value_heads} does not divide num_heads {self.num_heads}"
            )
        if self.mixture_of_experts is not None:
            self.mixture_of_experts.check()
        self.build_activation()  # an unknown name or option is an error here, not at the first use

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DecoderConfig":
        """Rebuilds a config from `dataclasses.asdict`, as stored in checkpoints.

        Raises:
            InputError: a key that this version does not know.
        """
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise InputError(f"decoder: unknown keys {sorted(unknown)}; was it written by another version?")
        nested = {
            "activation": ActivationConfig,
            "initialization": InitializationConfig,
            "mixture_of_experts": MixtureOfExpertsConfig,
        }
        return cls(**{k: nested[k](**v) if k in nested and isinstance(v, dict) else v for k, v in values.items()})

    @property
    def head_size(self) -> int:
        """Channels per attention head."""
        return self.hidden_size // self.num_heads

    @property
    def key_value_heads(self) -> int:
        """Number of key and value heads."""
        return self.num_key_value_heads or self.num_heads

    @property
    def is_gated(self) -> bool:
        """Whether the feed-forward has a gate, hence three matrices."""
        return activation_class(self.activation.name).gated

    @property
    def feed_forward_size(self) -> int:
        """The real width of the feed-forward, or of one expert."""
        return self.gated_width(self.intermediate_size)

    def gated_width(self, intermediate_size: int) -> int:
        """The width that two matrices' `intermediate_size` becomes: two thirds of it, rounded, if gated."""
        if not self.is_gated:
            return intermediate_size
        multiple = self.gated_size_multiple
        return max(multiple, round(intermediate_size * 2 / 3 / multiple) * multiple)

    @property
    def feed_forward_mismatch(self) -> float:
        """Relative difference of the feed-forward's matrix parameters from the two-matrix count; 0 if not gated."""
        matrices = 3 if self.is_gated else 2
        return matrices * self.feed_forward_size / (2 * self.intermediate_size) - 1

    @property
    def shared_activation(self) -> ActivationConfig:
        """The activation of a mixture's shared expert, which has no other experts to differ from."""
        per_expert = self.activation.scope == "expert"
        return replace(self.activation, scope="layer") if per_expert else self.activation

    @property
    def num_parameters(self) -> int:
        """All trainable parameters; a tied head is counted once."""
        qk_norms = {"none": 0, "head": 2 * self.head_size}.get(
            self.qk_norm, self.head_size * (self.num_heads + self.key_value_heads)
        )
        activations = self.build_activation().num_coefficients
        if self.shared_feed_forward_size:
            activations += build_activation(
                self.shared_activation, width=self.shared_feed_forward_size
            ).num_coefficients
        vectors = self.num_layers * (2 * self.hidden_size + qk_norms + activations) + self.hidden_size
        embedding = 0 if self.tie_embeddings else self.vocab_size * self.hidden_size
        return self._matrix_parameters(self._num_experts) + vectors + embedding

    @property
    def num_active_parameters(self) -> int:
        """Parameters that take part in one token's computation; all of them in a dense decoder."""
        idle = self._matrix_parameters(self._num_experts) - self._matrix_parameters(self._experts_per_token)
        if self.activation.scope == "expert":
            own = self.build_activation().num_coefficients // self._num_experts
            idle += self.num_layers * (self._num_experts - self._experts_per_token) * own
        return self.num_parameters - idle

    @property
    def num_active_matrix_parameters(self) -> int:
        """Parameters of the matrices that one token is multiplied with: those of its experts, and the output head's."""
        return self._matrix_parameters(self._experts_per_token)

    def _matrix_parameters(self, num_experts: int) -> int:
        """Parameters of the blocks' matrices and the output head, with `num_experts` feed-forwards in each block."""
        attention = 2 * self.hidden_size * self.head_size * (self.num_heads + self.key_value_heads)
        router = 0 if self.mixture_of_experts is None else self._num_experts * self.hidden_size
        width = num_experts * self.feed_forward_size + self.shared_feed_forward_size
        feed_forward = (3 if self.is_gated else 2) * self.hidden_size * width
        return self.num_layers * (attention + router + feed_forward) + self.vocab_size * self.hidden_size

    @property
    def _num_experts(self) -> int:
        return 1 if self.mixture_of_experts is None else self.mixture_of_experts.num_experts

    @property
    def _experts_per_token(self) -> int:
        return 1 if self.mixture_of_experts is None else self.mixture_of_experts.experts_per_token

    @property
    def shared_feed_forward_size(self) -> int:
        """The real width of a mixture's shared expert, 0 where there is none."""
        mixture = self.mixture_of_experts
        if mixture is None or not mixture.shared_intermediate_size:
            return 0
        return self.gated_width(mixture.shared_intermediate_size)

    def flops_per_token(self, sequence_length: int) -> int:
        """Training FLOPs of one token, forward and backward, as PaLM counts them (appendix B).

        Six per matrix parameter (the embedding is a look-up and costs none; a tied head costs its product) plus
        12 num_layers hidden_size sequence_length for attention, not halved for the causal mask. Element-wise work,
        the activation's included, is left out on purpose: its cost is its traffic, not its arithmetic, and MFU would
        otherwise reward an activation for being expensive. `activation_flops_per_token` and
        `activation_bytes_per_token` state it apart.
        """
        return 6 * self.num_active_matrix_parameters + 12 * self.num_layers * self.hidden_size * sequence_length

    @property
    def activation_flops_per_token(self) -> int:
        """Arithmetic of all layers' activations for one token, forward and backward; not in `flops_per_token`."""
        return self._activation_elements * self.build_activation().flops_per_element

    def activation_bytes_per_token(self, element_size: int) -> int:
        """Memory traffic of all layers' fused activations for one token, for values of `element_size` bytes."""
        return self._activation_elements * self.build_activation().bytes_per_element(element_size)

    @property
    def _activation_elements(self) -> int:
        """Values that one token's activations take in, over all layers."""
        return self.num_layers * (self._experts_per_token * self.feed_forward_size + self.shared_feed_forward_size)

    def build_activation(self) -> Activation:
        """A new activation for a block's feed-forward, or for all its experts."""
        num_experts = None if self.mixture_of_experts is None else self.mixture_of_experts.num_experts
        return build_activation(self.activation, width=self.feed_forward_size, num_experts=num_experts)

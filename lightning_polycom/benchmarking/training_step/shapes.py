"""The decoders whose training steps are measured."""

from dataclasses import dataclass

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.model import DecoderConfig
from lightning_polycom.model.mixture_of_experts.config import MixtureOfExpertsConfig


@dataclass(frozen=True)
class TrainingShape:
    """A decoder, the batch it trains on, and how many steps are a turn's.

    `intermediate_size` is that of two matrices, as in a config file; a gated activation gets two thirds of it.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    batch: int
    sequence: int
    steps: int
    mixture: MixtureOfExpertsConfig | None = None

    @property
    def tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.batch * self.sequence

    def decoder_config(self, activation: str) -> DecoderConfig:
        """Our decoder of this shape with an activation of the registry, or of an import path."""
        return DecoderConfig(
            self.vocab_size,
            self.hidden_size,
            self.num_layers,
            self.num_heads,
            self.intermediate_size,
            ActivationConfig(activation),
            max_sequence_length=self.sequence,
            qk_norm="none" if self.mixture is None else "width",
            mixture_of_experts=self.mixture,
        )


_OLMOE = MixtureOfExpertsConfig(num_experts=64, experts_per_token=8, normalize_weights=False)
_FEW = MixtureOfExpertsConfig(num_experts=8, experts_per_token=2, normalize_weights=True)

SHAPES = {
    # Next to no computation: what is left is what a loop costs.
    "tiny": TrainingShape(1024, 16, 1, 1, 48, batch=2, sequence=16, steps=10),
    # A step of milliseconds, beside which what a loop costs can be seen.
    "small": TrainingShape(512, 64, 2, 2, 192, batch=4, sequence=64, steps=50),
    "quickstart": TrainingShape(2048, 96, 3, 3, 384, batch=16, sequence=128, steps=20),
    "moe_quickstart": TrainingShape(2048, 96, 3, 3, 192, batch=16, sequence=128, steps=10, mixture=_FEW),
    "17m": TrainingShape(4096, 384, 8, 6, 1536, batch=8, sequence=512, steps=10),
    # 38.7M with an output head of its own.
    "35m": TrainingShape(32000, 384, 8, 6, 1536, batch=8, sequence=512, steps=10),
    "1b": TrainingShape(32000, 2048, 24, 16, 8256, batch=8, sequence=4096, steps=10),
    "moe_1b_7b": TrainingShape(50304, 2048, 16, 16, 1536, batch=2, sequence=4096, steps=10, mixture=_OLMOE),
}

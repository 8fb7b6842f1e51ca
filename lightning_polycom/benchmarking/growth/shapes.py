"""The sizes of each axis, and the decoder at each."""

from dataclasses import dataclass, replace

from lightning_polycom.benchmarking.training_step.shapes import TrainingShape
from lightning_polycom.model.mixture_of_experts.config import MixtureOfExpertsConfig

EXPERTS_PER_TOKEN = 2
EXPANSION = 4  # of the width axis: the feed-forward over the decoder


@dataclass(frozen=True)
class Preset:
    """The decoder from which each axis departs, and the sizes of all axes, ascending.

    `corpus` are shards of 100 million tokens.
    """

    base: TrainingShape
    sequence_length: tuple[int, ...]
    width: tuple[int, ...]
    depth: tuple[int, ...]
    vocabulary: tuple[int, ...]
    experts: tuple[int, ...]
    corpus: tuple[int, ...]
    questions: tuple[int, ...]
    head_size: int = 64


PRESETS = {
    # Only to see that everything works.
    "tiny": Preset(
        TrainingShape(64, 16, 1, 1, 48, batch=1, sequence=8, steps=1),
        *((8, 16), (16, 32), (1, 2), (64, 128), (2, 4), (1, 2), (1, 2)),
        head_size=16,
    ),
    "cpu": Preset(
        TrainingShape(2048, 256, 2, 4, 1024, batch=4, sequence=256, steps=1),
        sequence_length=(128, 256, 512, 1024, 2048),
        width=(64, 128, 256, 512, 1024),
        depth=(1, 2, 4, 8, 16),
        vocabulary=(1024, 2048, 4096, 8192, 16384, 32768),
        experts=(4, 8, 16, 32, 64),
        corpus=(625, 1250, 2500, 5000, 10_000),
        questions=(4, 8, 16, 32, 64),
    ),
    "cuda": Preset(
        TrainingShape(8192, 2048, 4, 16, 8192, batch=4, sequence=2048, steps=1),
        sequence_length=(1024, 2048, 4096, 8192, 16384),
        width=(512, 1024, 2048, 4096),
        depth=(2, 4, 8, 16),
        vocabulary=(8192, 16384, 32768, 65536, 131072),
        experts=(8, 16, 32, 64),
        corpus=(625, 1250, 2500, 5000, 10_000),
        questions=(64, 128, 256, 512, 1024),
        head_size=128,
    ),
}


def shape_at(preset: Preset, axis: str, size: int) -> TrainingShape:
    """The preset's decoder with one thing changed.

    Width takes the number of heads and the feed-forward with it, experts are half as wide as the dense feed-forward and
    two of them see each token. The number of sequences stays, so that tokens grow with the sequence length.
    """
    base = preset.base
    changes = {
        "sequence_length": {"sequence": size},
        "width": {"hidden_size": size, "num_heads": size // preset.head_size, "intermediate_size": EXPANSION * size},
        "depth": {"num_layers": size},
        "vocabulary": {"vocab_size": size},
        "experts": {
            "mixture": MixtureOfExpertsConfig(size, EXPERTS_PER_TOKEN, normalize_weights=True),
            "intermediate_size": base.intermediate_size // EXPERTS_PER_TOKEN,
        },
    }
    return replace(base, **changes[axis])


def step_flops(shape: TrainingShape, activation: str) -> int:
    """FLOPs of one optimizer step as PaLM counts them: the optimizer and element-wise work are not in it."""
    return shape.tokens * shape.decoder_config(activation).flops_per_token(shape.sequence)

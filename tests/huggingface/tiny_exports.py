"""Small decoders with random weights, and what a user of transformers makes of their exports."""

from pathlib import Path

import torch

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.initialization import initialize
from lightning_polycom.model.mixture_of_experts import MixtureOfExpertsConfig


def tiny(activation: str | ActivationConfig = "polynorm", **options) -> DecoderConfig:
    """A decoder of two layers and four heads."""
    if isinstance(activation, str):
        activation = ActivationConfig(activation)
    sizes = {"vocab_size": 600, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 48}
    return DecoderConfig(**{**sizes, "max_sequence_length": 64, **options}, activation=activation)


def sparse(activation: str | ActivationConfig = "swiglu", options: dict | None = None, **mixture) -> DecoderConfig:
    """The same with five experts, two for a token; as OLMoE it normalises queries and keys over the whole width."""
    experts = MixtureOfExpertsConfig(**{"num_experts": 5, "experts_per_token": 2, **mixture})
    return tiny(activation, **{"qk_norm": "width", **(options or {})}, mixture_of_experts=experts)


def randomised(config: DecoderConfig) -> Decoder:
    """Every parameter and buffer away from its start, so that one left out or swapped shows."""
    decoder = Decoder(config)
    initialize(decoder, 5)
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * (0.2 if parameter.ndim == 1 else 0.1))
        for buffer in decoder.buffers():
            buffer.add_(0.1 * torch.randn(buffer.shape, generator=generator))
    return decoder.eval()


def loaded(folder: Path, **options):
    """What a user of transformers gets."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, **options).eval()


def token_ids(rows: int = 3, length: int = 17) -> torch.Tensor:
    return torch.randint(0, 600, (rows, length), generator=torch.Generator().manual_seed(1))

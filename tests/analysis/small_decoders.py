"""Small decoders and texts for the tests of this folder."""

import numpy as np
import torch

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.initialization import initialize
from lightning_polycom.model.mixture_of_experts import MixtureOfExpertsConfig

SEQUENCE_LENGTH = 16


class Text:
    """Random tokens behind the interface of shards."""

    eos_token_id = 0

    def __init__(self, num_tokens: int, seed: int = 0):
        self.num_tokens, self._tokens = num_tokens, np.random.default_rng(seed).integers(0, 50, num_tokens)

    def read(self, start: int, length: int) -> np.ndarray:
        assert start >= 0 and start + length <= self.num_tokens
        return self._tokens[start : start + length]


def config(activation: str = "polynorm", sparse: bool = False, **options) -> DecoderConfig:
    mixture = MixtureOfExpertsConfig(4, 2) if sparse else None
    own = ActivationConfig(activation, scope="expert" if sparse and activation.startswith("poly") else None)
    return DecoderConfig(50, 16, 3, 2, 24, own, mixture_of_experts=mixture, **options)


def decoder(activation: str = "polynorm", sparse: bool = False, **options) -> Decoder:
    model = Decoder(config(activation, sparse, **options))
    initialize(model, 3)
    return model


def batch() -> torch.Tensor:
    """(4, SEQUENCE_LENGTH) int64 to train on."""
    return torch.randint(0, 50, (4, SEQUENCE_LENGTH), generator=torch.Generator().manual_seed(1))

"""The decoder in plain PyTorch: imports torch and the activations, nothing above them."""

from lightning_polycom.model.config import DecoderConfig, InitializationConfig
from lightning_polycom.model.decoder import Decoder

__all__ = ["Decoder", "DecoderConfig", "InitializationConfig"]

"""Finding and loading checkpoints; nothing in a checkpoint is executed."""

from lightning_polycom.checkpoints.load import load_decoder
from lightning_polycom.checkpoints.locate import locate_checkpoint

__all__ = ["load_decoder", "locate_checkpoint"]

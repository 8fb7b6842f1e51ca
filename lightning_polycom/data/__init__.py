"""Text in, token shards out, and the order in which they are read; knows no model."""

from lightning_polycom.data.manifest import Manifest
from lightning_polycom.data.order import SampleOrder
from lightning_polycom.data.preparation import PrepareConfig, prepare
from lightning_polycom.data.shards import TokenShards, open_shards, verify_checksums
from lightning_polycom.data.tokenizer import Tokenizer

__all__ = [
    "Manifest",
    "PrepareConfig",
    "SampleOrder",
    "TokenShards",
    "Tokenizer",
    "open_shards",
    "prepare",
    "verify_checksums",
]

"""Token shards that other tools wrote, read in place: one file per format, found by content."""

from lightning_polycom.data.formats.foreign import ForeignShards
from lightning_polycom.data.formats.locate import open_foreign

__all__ = ["ForeignShards", "open_foreign"]

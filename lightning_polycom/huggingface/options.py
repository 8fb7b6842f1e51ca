"""How to export; apart, so that the command's help needs no torch."""

from dataclasses import dataclass
from typing import Literal

from lightning_polycom.errors import InputError

MAX_SHARD_BYTES = 5_000_000_000


@dataclass(frozen=True)
class ExportOptions:
    """How to write the folder.

    Args:
        dtype: fp32, as trained, or bf16, half the size; an activation's own numbers stay fp32.
        layout: `auto` takes a class of transformers where one computes the same decoder; `own` always writes our
            modeling files.
        license: Identifier of the weights' licence for the model card, such as apache-2.0; default not stated.
        max_shard_bytes: Largest weight file; more weights are written as several files with an index.
    """

    dtype: Literal["fp32", "bf16"] = "fp32"
    layout: Literal["auto", "own"] = "auto"
    license: str | None = None
    max_shard_bytes: int = MAX_SHARD_BYTES

    def __post_init__(self) -> None:
        if self.max_shard_bytes < 1:
            raise InputError(f"max_shard_bytes: found {self.max_shard_bytes}; it must be at least 1")
        if self.license is not None and not all(c.isalnum() or c in "-._" for c in self.license):
            raise InputError(f"license: found '{self.license}'; give an identifier such as apache-2.0")

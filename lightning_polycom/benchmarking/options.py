"""What `polycom bench activations` measures: the options, their checks, and the defaults of each kind of device."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lightning_polycom.errors import InputError

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "bfloat16", "float16")
WAYS = {
    "authors": "authors' formula, recomputed",
    "reference": "reference formula, eager",
    "reference_compiled": "reference formula, compiled",
    "module": "module, eager",
    "module_compiled": "module, compiled",
    "liger": "Liger-Kernel",
}
CONTRAST = ("relu", "gelu")  # measured in every table


class Size(NamedTuple):
    """The shape of the measured tensor."""

    rows: int
    width: int


class Plan(NamedTuple):
    """What is measured on one device; names without the contrast."""

    device: str
    sizes: tuple[Size, ...]
    dtypes: tuple[str, ...]
    names: tuple[str, ...]
    ways: tuple[str, ...]
    repetitions: int


DEFAULTS = {
    "cpu": Plan("cpu", (Size(8192, 8192),), ("float32", "bfloat16"), ("polyrelu", "polynorm"), tuple(WAYS), 5),
    "cuda": Plan(
        "cuda",
        (Size(16384, 8256), Size(131072, 1536)),
        ("bfloat16",),
        ("polyrelu", "polynorm", "polyrelu_glu", "polynorm_glu"),
        tuple(WAYS),
        25,
    ),
}


@dataclass(frozen=True)
class ActivationBenchmarkOptions:
    """What to measure; what is left at None takes the device's default in DEFAULTS.

    `rows` and `width` are lists of equal length, taken in pairs; `size` adds ROWSxWIDTH strings to them.

    Raises:
        InputError: sizes or repetitions below 1, rows without a width each, something unknown, or an output folder.
    """

    rows: list[int] | None = None
    width: list[int] | None = None
    size: list[str] | None = None
    dtype: list[str] | None = None
    names: list[str] | None = None
    ways: list[str] | None = None
    device: str = "auto"
    repetitions: int | None = None
    output: str | None = None

    def __post_init__(self) -> None:
        self.sizes()
        for key, known in (("dtype", DTYPES), ("ways", WAYS), ("device", DEVICES)):
            found = getattr(self, key)
            for value in [found] if isinstance(found, str) else found or []:
                if value not in known:
                    raise InputError(f"{key}: found '{value}'; give {', '.join(known)}")
        if self.repetitions is not None and self.repetitions < 1:
            raise InputError(f"repetitions: found {self.repetitions}; it must be at least 1")
        if self.output is not None and Path(self.output).is_dir():
            # Found out before minutes of measurement, not after.
            raise InputError(f"output: {self.output} is a folder; name a file, such as {self.output}/bench.json")

    def sizes(self) -> tuple[Size, ...]:
        """The sizes asked for, in order; empty for the default."""
        rows, width = self.rows or [], self.width or []
        if len(rows) != len(width):
            raise InputError(f"rows, width: found {len(rows)} and {len(width)} numbers; give as many of each")
        sizes = [Size(*pair) for pair in zip(rows, width, strict=True)] + [_parsed(text) for text in self.size or []]
        for size in sizes:
            if min(size) < 1:
                raise InputError(f"rows, width: found {size.rows} x {size.width}; both must be at least 1")
        return tuple(sizes)

    def plan(self, device: str) -> Plan:
        """What to measure on `device`, `cpu` or `cuda`."""
        default = DEFAULTS[device]
        return Plan(
            device,
            self.sizes() or default.sizes,
            tuple(self.dtype or default.dtypes),
            tuple(name for name in self.names or default.names if name not in CONTRAST),
            tuple(way for way in WAYS if way in (self.ways or default.ways)),
            self.repetitions or default.repetitions,
        )


def _parsed(text: str) -> Size:
    found = re.fullmatch(r"(\d+)x(\d+)", text.strip().lower())
    if found is None:
        raise InputError(f"size: found '{text}'; give ROWSxWIDTH, such as 16384x8256")
    return Size(int(found[1]), int(found[2]))

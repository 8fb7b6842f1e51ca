"""Measured times and what follows from them: ratios to the floor and shares of the copy's bandwidth."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch


class Times(NamedTuple):
    """Seconds of forward and backward together, and apart where the clock can; `settled` if free of page faults."""

    both: float
    forward: float | None = None
    backward: float | None = None
    settled: bool = True


class Measurement(NamedTuple):
    """The times of one way to compute one activation."""

    name: str
    way: str
    gated: bool
    times: Times


class Skipped(NamedTuple):
    """A way that was not measured, and why."""

    name: str
    way: str
    reason: str


@dataclass
class Group:
    """All measurements over tensors of one shape and dtype.

    `yardstick` are the seconds, in the same run and over the same tensors, of a copy plus a two-input add on a CPU
    (the five passes that no activation can do without) and of a copy on a GPU (two passes).
    """

    device: str
    dtype: str
    rows: int
    width: int
    yardstick: Times
    measurements: list[Measurement] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def tensor_bytes(self) -> int:
        """Bytes of one measured tensor."""
        return self.rows * self.width * getattr(torch, self.dtype).itemsize

    @property
    def bandwidth(self) -> float:
        """Bytes per second, read and written, of the yardstick."""
        return (2 if self.device == "cuda" else 5) * self.tensor_bytes / self.yardstick.both

    @property
    def settled(self) -> bool:
        """Whether every number is free of page faults."""
        return self.yardstick.settled and all(found.times.settled for found in self.measurements)

    def find(self, name: str, way: str) -> Measurement | None:
        """The measurement of a way to compute an activation, if there is one."""
        return next((m for m in self.measurements if (m.name, m.way) == (name, way)), None)

    def to_floor(self, found: Measurement) -> float:
        """Time of forward and backward over that of their passes (5, gated 8) at the yardstick's bandwidth."""
        passes = 8 if found.gated else 5
        return found.times.both * self.bandwidth / (passes * self.tensor_bytes)

    def shares(self, found: Measurement) -> tuple[float, float] | None:
        """Achieved shares of the yardstick's bandwidth, forward (2 passes, gated 3) and backward (3, gated 5)."""
        if found.times.forward is None or found.times.backward is None:
            return None
        forward, backward = (3, 5) if found.gated else (2, 3)
        ideal = self.tensor_bytes / self.bandwidth  # seconds of one pass
        return forward * ideal / found.times.forward, backward * ideal / found.times.backward

    def record(self) -> dict:
        """Every number as plain types, for JSON."""
        rows = []
        for found in self.measurements:
            shares = self.shares(found) or (None, None)
            rows.append(
                {
                    **{key: getattr(found, key) for key in ("name", "way", "gated")},
                    "seconds": found.times._asdict(),
                    "ratio_to_floor": self.to_floor(found),
                    "forward_share": shares[0],
                    "backward_share": shares[1],
                }
            )
        return {
            **{key: getattr(self, key) for key in ("device", "dtype", "rows", "width")},
            "yardstick_seconds": self.yardstick._asdict(),
            "yardstick_bytes_per_second": self.bandwidth,
            "measurements": rows,
            "skipped": [skipped._asdict() for skipped in self.skipped],
        }

"""The project's goals for its activations, held against what was measured."""

from collections.abc import Iterator
from typing import NamedTuple

from lightning_polycom.benchmarking.measurement import Group, Measurement

MIN_SHARE = 0.80
MIN_LIGER_SPEEDUP = 1.5
MIN_COMPILED_SPEEDUP = 1.2
MAX_GELU_RATIO = 1.10
MAX_FLOOR_RATIO = {"polynorm": 2.1, "polyrelu": 1.3}
MIN_AUTHORS_SPEEDUP = 15.0
MIN_BYTES = 2**26  # of one tensor: smaller ones lie in a cache, and their yardstick is not the memory


class Goal(NamedTuple):
    """One goal for one shape and dtype: what was found, and the limit that it must reach or not exceed."""

    case: str
    what: str
    found: float
    limit: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.found >= self.limit if self.at_least else self.found <= self.limit


def goals(groups: list[Group]) -> list[Goal]:
    """Every goal that the measurements can decide; what was left out or skipped, or is small, decides nothing."""
    large = [group for group in groups if group.tensor_bytes >= MIN_BYTES]
    return [goal for group in large for goal in (_on_gpu(group) if group.device == "cuda" else _on_cpu(group))]


def _on_cpu(group: Group) -> Iterator[Goal]:
    case = _case(group)
    for name, limit in MAX_FLOOR_RATIO.items():
        if found := group.find(name, "module_compiled"):
            yield Goal(case, f"{name} compiled, time over the floor's", group.to_floor(found), limit, False)
    found, authors = group.find("polynorm", "module_compiled"), group.find("polynorm", "authors")
    if found and authors:
        what = "polynorm compiled, speed over the authors'"
        yield Goal(case, what, _speedup(found, authors), MIN_AUTHORS_SPEEDUP, True)


def _on_gpu(group: Group) -> Iterator[Goal]:
    case, gelu = _case(group), group.find("gelu", "module")
    for found in (m for m in group.measurements if m.way == "module" and m.name.startswith("poly")):
        for direction, share in zip(("forward", "backward"), group.shares(found) or (), strict=False):
            yield Goal(case, f"{found.name} {direction}, share of the copy's bandwidth", share, MIN_SHARE, True)
        for way, label, limit in (
            ("liger", "Liger-Kernel's", MIN_LIGER_SPEEDUP),
            ("reference_compiled", "the compiled formula's", MIN_COMPILED_SPEEDUP),
        ):
            if other := group.find(found.name, way):
                yield Goal(case, f"{found.name}, speed over {label}", _speedup(found, other), limit, True)
        if gelu and not found.gated:
            ratio = found.times.both / gelu.times.both
            yield Goal(case, f"{found.name}, time over fused GELU's", ratio, MAX_GELU_RATIO, False)


def _speedup(found: Measurement, other: Measurement) -> float:
    return other.times.both / found.times.both


def _case(group: Group) -> str:
    return f"{group.dtype}, {group.rows} x {group.width}"

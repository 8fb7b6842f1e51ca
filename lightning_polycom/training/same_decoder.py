"""Where two decoders are not the same."""

from dataclasses import asdict
from typing import Any

from lightning_polycom.model import DecoderConfig

HOW = ("recompute_activation",)  # how it computes, not what


def differences(theirs: DecoderConfig, ours: DecoderConfig) -> dict[str, str]:
    """Each setting that differs by its name, as `name theirs (here ours)`; empty for decoders that compute the same."""
    one, other = _flat(asdict(theirs)), _flat(asdict(ours))
    return {
        name: f"{name} {one.get(name)} (here {other.get(name)})"
        for name in sorted(set(one) | set(other))
        if name not in HOW and one.get(name) != other.get(name)
    }


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat

"""What `polycom analyze` found in a run's newest checkpoint, as the report shows it."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lightning_polycom.errors import InputError
from lightning_polycom.json_object import read_json_object

NO_STATISTICS = ("layer", "count", "power")  # what the entries say of themselves
ADVICE = "write it again with polycom analyze"


class Analysis(NamedTuple):
    """An analysis; what was not analysed is empty or None.

    Attributes:
        step: Optimizer steps of the checkpoint.
        effective_rank: Per matrix (`up`, `gate`, `down`) the ranks of all layers.
        layer_similarity: Cosine similarity of hidden states (layers, layers).
        statistics: Per name, such as `input/kurtosis` or `input/quantiles/0.5`, the values of all layers.
    """

    step: int
    effective_rank: dict[str, np.ndarray]
    layer_similarity: np.ndarray | None
    statistics: dict[str, np.ndarray]


def newest_analysis(folder: Path) -> Analysis | None:
    """The analysis of the latest step in a run's folder probes, or None.

    Raises:
        InputError: the file is damaged, or of another form.
    """
    paths = sorted(folder.glob("analysis-step-*.json"), key=lambda path: int("0" + path.stem.rsplit("-", 1)[-1]))
    if not paths:
        return None
    values = read_json_object(paths[-1], "analysis: ", ADVICE)
    try:
        return _parse(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"analysis: {paths[-1]} has another form ({error}); {ADVICE}") from error


def _parse(values: dict[str, Any]) -> Analysis:
    ranks = {matrix: _vector(layers) for matrix, layers in (values.get("effective_rank") or {}).items()}
    similarity = values.get("layer_similarity")
    if similarity is not None:
        similarity = np.array([_vector(row) for row in similarity])
        if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:
            raise ValueError(f"layer_similarity is {similarity.shape}, not square")
    layers = [_flat(entry) for entry in values.get("activation_statistics") or []]
    names = [name for name in (layers[0] if layers else ()) if name.rsplit("/", 1)[-1] not in NO_STATISTICS]
    statistics = {name: np.array([layer.get(name, np.nan) for layer in layers]) for name in names}
    return Analysis(int(values["step"]), ranks, similarity, statistics)


def _vector(numbers: list[float | None]) -> np.ndarray:
    return np.array([np.nan if number is None else float(number) for number in numbers])


def _flat(entry: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers of nested objects under names with slashes; null is nan."""
    flat: dict[str, float] = {}
    for key, value in entry.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}/")
        else:
            flat[f"{prefix}{key}"] = np.nan if value is None else float(value)
    return flat

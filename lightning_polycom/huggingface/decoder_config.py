"""config.json of a foreign or own folder to the decoder's shape; what we do not compute is refused by name."""

import math
from pathlib import Path
from typing import Any

from lightning_polycom.activations import ACTIVATIONS, ActivationConfig
from lightning_polycom.errors import InputError
from lightning_polycom.huggingface.layouts import HIDDEN_ACTS, OWN_ARCHITECTURE, STOCK_LAYOUTS, StockLayout
from lightning_polycom.model import DecoderConfig
from lightning_polycom.model.mixture_of_experts import MixtureOfExpertsConfig

SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_sequence_length": "max_position_embeddings",
}
"""Our names and transformers' of the whole numbers that a config.json must say."""


def decoder_config(path: Path, values: dict[str, Any]) -> DecoderConfig:
    """The decoder that the config.json at `path`, read as `values`, describes.

    Raises:
        InputError: another architecture, a feature that the decoder does not have, or a value that is missing.
    """
    named = values.get("architectures")
    architecture = named[0] if isinstance(named, list) and named else named
    known = {layout.architecture: layout for layout in STOCK_LAYOUTS}
    if architecture not in (OWN_ARCHITECTURE, *known):
        names = ", ".join([*known, OWN_ARCHITECTURE])
        raise InputError(f"import: {path} is of {architecture}; this version reads {names}")
    layout = known.get(architecture)
    values = values if layout is None else layout.defaults | {k: v for k, v in values.items() if v is not None}
    _refuse_unsupported(path, values)
    activation, qk_norm = _own_parts(path, values) if layout is None else _stock_parts(path, values, layout)
    # A dense class has no experts, whatever config.json says beside.
    sparse = bool(values.get("num_experts")) if layout is None else layout.sparse
    return _built(path, values, activation, qk_norm, sparse)


def _built(
    path: Path, values: dict[str, Any], activation: ActivationConfig, qk_norm: str, sparse: bool
) -> DecoderConfig:
    sizes = {ours: _number(path, values, theirs, int) for ours, theirs in SIZES.items()}
    mixture = _mixture(path, values) if sparse else {}
    if ACTIVATIONS[activation.name].gated:
        _count_as_two_matrices(sizes, mixture)
    key_value_heads = values.get("num_key_value_heads")
    if key_value_heads is not None:
        key_value_heads = _number(path, values, "num_key_value_heads", int)
    try:
        config = DecoderConfig(
            **sizes,
            # None as in a run that does not set it
            num_key_value_heads=None if key_value_heads == sizes["num_heads"] else key_value_heads,
            norm_eps=_number(path, values, "rms_norm_eps", float),
            rope_theta=_number(path, _rope(values), "rope_theta", float),
            activation=activation,
            qk_norm=qk_norm,
            tie_embeddings=bool(values.get("tie_word_embeddings", False)),
            mixture_of_experts=MixtureOfExpertsConfig(**mixture) if sparse else None,
        )
    except TypeError as error:  # an option of the activation that is not of its type
        raise InputError(f"import: {path} has activation {activation.options}; {error}") from error
    found = values.get("head_dim")
    if found not in (None, config.head_size):
        raise InputError(f"import: {path} has head_dim {found}; only hidden_size / heads is read, {config.head_size}")
    return config


def _number(path: Path, values: dict[str, Any], key: str, kind: type) -> Any:
    """A whole (int) or finite (float) number of config.json."""
    if values.get(key) is None:
        raise InputError(f"import: {path} lacks {key}; copy the folder again")
    value = values[key]
    if isinstance(value, bool) or not isinstance(value, int | kind) or not math.isfinite(value):
        raise InputError(f"import: {path} has {key} {value!r}; it must be a {'whole ' if kind is int else ''}number")
    return kind(value)


def _rope(values: dict[str, Any]) -> dict[str, Any]:
    """Where the base of the rotary positions stands: newer folders keep it in `rope_parameters`."""
    return {"rope_theta": 10000.0} | values | (values.get("rope_parameters") or {})


def _mixture(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The entries of a mixture of experts; a shared expert's width is the real one."""
    switches = {"normalize_weights": "norm_topk_prob", "selection_bias": "selection_bias"}
    for key in switches.values():
        if not isinstance(values.get(key, False), bool):
            raise InputError(f"import: {path} has {key} {values[key]!r}; it must be true or false")
    sizes = {
        "num_experts": "num_experts",
        "experts_per_token": "num_experts_per_tok",
        "shared_intermediate_size": "shared_expert_intermediate_size",
    }
    given = {"shared_expert_intermediate_size": 0} | values
    return {
        **{ours: _number(path, given, theirs, int) for ours, theirs in sizes.items()},
        **{ours: values.get(theirs, False) for ours, theirs in switches.items()},
    }


def _count_as_two_matrices(sizes: dict[str, int], mixture: dict[str, Any]) -> None:
    """Turns real widths into those of which a gated feed-forward takes two thirds, rounded to give them back."""
    widths = [(sizes, "intermediate_size"), (mixture, "shared_intermediate_size")]
    found = [entries.get(name, 0) for entries, name in widths]
    sizes["gated_size_multiple"] = 8 if all(width % 8 == 0 for width in found) else 1
    for (entries, name), width in zip(widths, found, strict=True):
        if width:
            entries[name] = (3 * width + 1) // 2


def _stock_parts(path: Path, values: dict[str, Any], layout: StockLayout) -> tuple[ActivationConfig, str]:
    names = HIDDEN_ACTS[layout.gated]
    found = values["hidden_act"]
    if found not in names:
        raise InputError(
            f"import: {path} has hidden_act {found!r}; {layout.architecture} is read with {', '.join(names)}"
        )
    return names[found], layout.qk_norm


def _own_parts(path: Path, values: dict[str, Any]) -> tuple[ActivationConfig, str]:
    activation, qk_norm = values.get("activation"), values.get("qk_norm")
    # Only names of the registry: an import path would run the code it leads to.
    if not isinstance(activation, dict) or activation.get("name") not in list(ACTIVATIONS):
        raise InputError(f"import: {path} has activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
    if qk_norm not in ("none", "head", "width"):
        raise InputError(f"import: {path} has qk_norm {qk_norm!r}; known: none, head, width")
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in activation.items()}
    try:
        return ActivationConfig(**options), qk_norm
    except TypeError as error:
        raise InputError(f"import: {path} has an unknown option in activation {activation}; {error}") from error


def _refuse_unsupported(path: Path, values: dict[str, Any]) -> None:
    """Names the first feature that the decoder does not have."""
    for key in ("rope_scaling", "rope_parameters"):
        rope = values.get(key)
        if rope is None:
            continue
        kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else rope
        if kind != "default":
            raise InputError(f"import: {path} has {key} of type {kind!r}; only plain rotary positions are supported")
        if rope.get("partial_rotary_factor", 1) != 1:
            raise InputError(f"import: {path} has {key}.partial_rotary_factor; heads are rotated whole")
    kinds = values.get("layer_types") or []
    other = [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if kind != "full_attention"]
    if other:
        raise InputError(f"import: {path} has layer_types {other[0]!r}; only full attention is supported")
    sliding = values.get("sliding_window") is not None and values.get("use_sliding_window", True)
    features = {
        "attention_bias": values.get("attention_bias"),
        "mlp_bias": values.get("mlp_bias"),
        "sliding_window": values.get("sliding_window") if sliding else None,
        "partial_rotary_factor": values.get("partial_rotary_factor") not in (None, 1, 1.0),
        "clip_qkv": values.get("clip_qkv") is not None,
        "quantization_config": bool(values.get("quantization_config")),
    }
    for key, used in features.items():
        if used:
            raise InputError(f"import: {path} has {key} {values[key]!r}; the decoder has no such feature")

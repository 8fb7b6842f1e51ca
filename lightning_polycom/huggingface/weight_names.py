"""Our parameters' names and transformers' names, which are Llama's in every layout, and OLMoE's for experts."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

OUTER = {"embedding.weight": EMBEDDING, "norm.weight": "model.norm.weight", "head.weight": HEAD}
"""Names outside the blocks."""

INNER = {
    "attention_norm.": "input_layernorm.",
    "attention.query.": "self_attn.q_proj.",
    "attention.key.": "self_attn.k_proj.",
    "attention.value.": "self_attn.v_proj.",
    "attention.output.": "self_attn.o_proj.",
    "attention.query_norm.": "self_attn.q_norm.",
    "attention.key_norm.": "self_attn.k_norm.",
    "feed_forward_norm.": "post_attention_layernorm.",
    "feed_forward.activation.": "mlp.act_fn.",
    "feed_forward.gate.": "mlp.gate_proj.",
    "feed_forward.up.": "mlp.up_proj.",
    "feed_forward.down.": "mlp.down_proj.",
    "feed_forward.router.weight": "mlp.gate.weight",
    "feed_forward.router.selection_bias": "mlp.gate.e_score_correction_bias",
    "feed_forward.shared.activation.": "mlp.shared_expert.act_fn.",
    "feed_forward.shared.gate.": "mlp.shared_expert.gate_proj.",
    "feed_forward.shared.up.": "mlp.shared_expert.up_proj.",
    "feed_forward.shared.down.": "mlp.shared_expert.down_proj.",
}
"""Beginnings of names inside a block."""

EXPERTS = {"feed_forward.gate": "gate_proj", "feed_forward.up": "up_proj", "feed_forward.down": "down_proj"}
"""Names inside a block of matrices that all experts have, one parameter (num_experts, out, in)."""

FUSED_IN, FUSED_OUT = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"
"""The experts' matrices as transformers 5 keeps them in memory, (num_experts, out, in); gate above up."""

KEPT_IN_FP32 = (".act_fn.", ".mlp.gate.")
"""Parts of transformers' names of what stays fp32 in any export: coefficients, and routers, whose choice is a rank."""


class Place(NamedTuple):
    """Where a parameter of ours, or one expert's part of it, lies among transformers' tensors.

    `name` and `shape` are those of transformers' tensor, `rows` the part of its second dimension, all if None.
    `expert` is the part of our parameter, all of it if None.
    """

    name: str
    shape: tuple[int, ...]
    expert: int | None = None
    rows: tuple[int, int] | None = None


def places(name: str, shape: Sequence[int], fused: bool = False) -> Iterator[Place]:
    """Where transformers keeps the parameter `name` of this shape, in order.

    `blocks.3.attention.query.weight` is `model.layers.3.self_attn.q_proj.weight`; `blocks.3.feed_forward.up` of four
    experts is `model.layers.3.mlp.experts.0.up_proj.weight` and three more, or, `fused`, the lower rows of
    `model.layers.3.mlp.experts.gate_up_proj`.

    Raises:
        KeyError: a parameter that no layout has a name for.
    """
    shape = tuple(shape)
    if name in OUTER:
        yield Place(OUTER[name], shape)
        return
    _, layer, inner = name.split(".", 2)
    layer = f"model.layers.{layer}."
    if inner in EXPERTS and fused:
        yield _fused(layer, inner, shape)
    elif inner in EXPERTS:
        for expert in range(shape[0]):
            yield Place(f"{layer}mlp.experts.{expert}.{EXPERTS[inner]}.weight", shape[1:], expert)
    else:
        ours = next((prefix for prefix in INNER if inner.startswith(prefix)), None)
        if ours is None:
            raise KeyError(name)
        yield Place(f"{layer}{INNER[ours]}{inner.removeprefix(ours)}", shape)


def _fused(layer: str, inner: str, shape: tuple[int, ...]) -> Place:
    if inner == "feed_forward.down":
        return Place(layer + FUSED_OUT, shape)
    experts, size, width = shape
    first = 0 if inner == "feed_forward.gate" else size
    return Place(layer + FUSED_IN, (experts, 2 * size, width), rows=(first, first + size))

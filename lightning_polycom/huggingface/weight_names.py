"""Our parameters' names and transformers' names, which are Llama's in every layout."""

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
}
"""Beginnings of names inside a block. A mixture of experts adds its router and experts here."""


def to_transformers(name: str) -> str:
    """`blocks.3.attention.query.weight` -> `model.layers.3.self_attn.q_proj.weight`.

    Raises:
        KeyError: a parameter that no layout has a name for.
    """
    if name in OUTER:
        return OUTER[name]
    _, layer, inner = name.split(".", 2)
    ours = next((prefix for prefix in INNER if inner.startswith(prefix)), None)
    if ours is None:
        raise KeyError(name)
    return f"model.layers.{layer}.{INNER[ours]}{inner.removeprefix(ours)}"

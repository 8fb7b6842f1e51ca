"""A lightning_polycom decoder for transformers: Llama's blocks with any of the project's activations, dense or sparse.

Needs torch and transformers only. The weights have the names of Llama and OLMoE; an activation's own numbers are
`mlp.act_fn.*`.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils import can_return_tuple

from .activations_polycom import XIELU, Polynomial
from .configuration_polycom import PolycomConfig
from .feed_forward_polycom import PolycomMLP, PolycomRouter, PolycomSparseMLP

# The name of the key-value cache among arguments and outputs; transformers 5.2x renamed it.
CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"


class PolycomRMSNorm(nn.Module):
    """x / sqrt(mean(x^2, last axis) + eps) * weight, in fp32."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> same shape and dtype."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)


def rotary_table(position_ids: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of positions (batch, length): two fp32 tensors (batch, 1, length, head_dim)."""
    exponents = torch.arange(0, head_dim, 2, device=position_ids.device, dtype=torch.float32) / head_dim
    angles = position_ids[:, None, :, None].float() * theta**-exponents
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Rotates (batch, heads, length, head_dim) by its positions."""
    cosine, sine = table
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cosine + torch.cat([-second, first], dim=-1) * sine).to(x.dtype)


def visibility(attention_mask: Tensor | None, past: int, length: int, device: torch.device) -> Tensor | None:
    """Which keys a query sees: (batch, 1, length, past + length), or None where causal order alone decides.

    `attention_mask` (batch, past + length) is 0 on padding; one of four dimensions is taken as it is.
    """
    if attention_mask is not None and attention_mask.ndim == 4:
        return attention_mask
    padded = attention_mask is not None and not bool(attention_mask.all())
    if not padded and (past == 0 or length == 1):
        return None
    keys = torch.arange(past + length, device=device)
    queries = keys[past:, None]
    if not padded:
        return (keys <= queries)[None, None]
    seen = (keys <= queries) & attention_mask[:, None, None, :].bool()
    return seen | (keys == queries)  # a query on padding sees itself: one that sees nothing would give nan


class PolycomAttention(nn.Module):
    """Causal attention with rotary positions, optional grouped-query heads and QK-norm."""

    def __init__(self, config: PolycomConfig, layer_idx: int):
        super().__init__()
        self.layer_idx, self.head_dim, self.qk_norm = layer_idx, config.head_dim, config.qk_norm
        key_value_size = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, key_value_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, key_value_size, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        if config.qk_norm != "none":
            per_head = config.qk_norm == "head"
            self.q_norm = PolycomRMSNorm(config.head_dim if per_head else config.hidden_size, config.rms_norm_eps)
            self.k_norm = PolycomRMSNorm(config.head_dim if per_head else key_value_size, config.rms_norm_eps)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], visible: Tensor | None, cache, past: int) -> Tensor:
        """(batch, length, hidden_size) -> same shape; `past` tokens are in the cache already."""
        query, key, value = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        if self.qk_norm == "width":
            query, key = self.q_norm(query), self.k_norm(key)
        query, key, value = (t.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for t in (query, key, value))
        if self.qk_norm == "head":
            query, key = self.q_norm(query), self.k_norm(key)
        query, key = rotate(query, rotary), rotate(key, rotary)
        if cache is not None:
            filled = past + x.shape[1]
            places = {"cache_position": torch.arange(past, filled, device=x.device)}  # asked for before 5.10
            key, value = cache.update(key, value, self.layer_idx, places)
            # A cache of fixed size has room behind the last token.
            filled = filled if visible is None else visible.shape[-1]
            key, value = key[:, :, :filled], value[:, :, :filled]
        causal, grouped = visible is None and x.shape[1] > 1, key.shape[1] != query.shape[1]
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=visible, is_causal=causal, enable_gqa=grouped
        )
        return self.o_proj(attended.transpose(1, 2).flatten(2))


class PolycomDecoderLayer(GradientCheckpointingLayer):
    """Attention, then feed-forward, each normalised before and added to the residual stream."""

    def __init__(self, config: PolycomConfig, layer_idx: int):
        super().__init__()
        self.input_layernorm = PolycomRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = PolycomAttention(config, layer_idx)
        self.post_attention_layernorm = PolycomRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = PolycomSparseMLP(config) if config.num_experts else PolycomMLP(config, config.intermediate_size)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], visible: Tensor | None, cache, past: int) -> Tensor:
        """(batch, length, hidden_size) -> same shape."""
        x = x + self.self_attn(self.input_layernorm(x), rotary, visible, cache, past)
        return x + self.mlp(self.post_attention_layernorm(x))


class PolycomPreTrainedModel(PreTrainedModel):
    """What transformers asks of every model."""

    config_class = PolycomConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    # Lists, because older versions of transformers ask for them.
    _no_split_modules: ClassVar = ["PolycomDecoderLayer"]
    _skip_keys_device_placement: ClassVar = ["cache", "past_key_values"]
    # 1/3 in bf16 is off by 0.2%, and a router's choice is a rank.
    _keep_in_fp32_modules_strict: ClassVar = ["act_fn", "mlp.gate.weight", "e_score_correction_bias"]

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        loaded = any(getattr(p, "_is_hf_initialized", False) for p in module.parameters(recurse=False))
        if isinstance(module, Polynomial | XIELU) and not loaded:
            module.reset_parameters()
        if isinstance(module, PolycomRouter) and not loaded:
            module.reset_parameters(self.config.initializer_range)


class PolycomModel(PolycomPreTrainedModel):
    """Token ids to the normalised last hidden states."""

    def __init__(self, config: PolycomConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(PolycomDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = PolycomRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        cache=None,
        past_key_values=None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        """(batch, length) ids; positions follow from `attention_mask` (0 on padding) where they are not given."""
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        cache = past_key_values if cache is None else cache
        if self.training and self.layers[0].gradient_checkpointing:
            cache = None  # the second forward pass would add the same keys again
        elif cache is None and (self.config.use_cache and not self.training if use_cache is None else use_cache):
            cache = DynamicCache()
        length, past = x.shape[1], 0 if cache is None else int(cache.get_seq_length())
        if position_ids is None and attention_mask is not None and attention_mask.ndim == 2:
            position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]
        elif position_ids is None:
            position_ids = torch.arange(past, past + length, device=x.device)[None]
        visible = visibility(attention_mask, past, length, x.device)
        rotary = rotary_table(position_ids, self.config.head_dim, self.config.rope_theta)
        kept = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        states = []
        for layer in self.layers:
            states += [x] if kept else []
            x = layer(x, rotary, visible, cache, past)
        x = self.norm(x)
        hidden_states = (*states, x) if kept else None
        return BaseModelOutputWithPast(last_hidden_state=x, hidden_states=hidden_states, **{CACHE: cache})


class PolycomForCausalLM(PolycomPreTrainedModel, GenerationMixin):
    """The decoder with its output head."""

    _tied_weights_keys: ClassVar = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: PolycomConfig):
        super().__init__(config)
        self.model = PolycomModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        cache=None,
        past_key_values=None,
        logits_to_keep: int | Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Logits (batch, length, vocab_size), and the mean next-token loss if `labels` are given."""
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
            cache=past_key_values if cache is None else cache,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        used = {CACHE: outputs.get(CACHE)}
        return CausalLMOutputWithPast(loss=loss, logits=logits, hidden_states=outputs.hidden_states, **used)

"""Which class of transformers computes a decoder, and the config.json that says so."""

import math
from dataclasses import dataclass
from typing import Any

from lightning_polycom.activations import ACTIVATIONS, ActivationConfig
from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.errors import InputError
from lightning_polycom.model import DecoderConfig

OWN_ARCHITECTURE, OWN_MODEL_TYPE = "PolycomForCausalLM", "polycom"

AUTO_MAP = {
    "AutoConfig": "configuration_polycom.PolycomConfig",
    "AutoModel": "modeling_polycom.PolycomModel",
    "AutoModelForCausalLM": f"modeling_polycom.{OWN_ARCHITECTURE}",
}
"""Where transformers finds the classes of the files that lie in the folder."""


@dataclass(frozen=True)
class StockLayout:
    """A class that transformers ships: what it computes, and what it takes for values that config.json leaves out."""

    architecture: str
    model_type: str
    gated: bool
    qk_norm: str
    defaults: dict[str, Any]
    sparse: bool = False


STOCK_LAYOUTS = (
    StockLayout(
        "LlamaForCausalLM",
        "llama",
        gated=True,
        qk_norm="none",
        defaults={"hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-6},
    ),
    StockLayout(
        "Qwen3ForCausalLM",
        "qwen3",
        gated=True,
        qk_norm="head",
        defaults={"hidden_act": "silu", "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "head_dim": 128},
    ),
    StockLayout(
        "ArceeForCausalLM",
        "arcee",
        gated=False,
        qk_norm="none",
        defaults={"hidden_act": "relu2", "max_position_embeddings": 4096, "rms_norm_eps": 1e-5},
    ),
    StockLayout(
        "OlmoeForCausalLM",
        "olmoe",
        gated=True,
        qk_norm="width",
        defaults={
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "num_experts": 64,
            "num_experts_per_tok": 8,
        },
        sparse=True,
    ),
)
"""Pre-norm decoders. OLMo 2 normalises after each part, so it is none of ours. Apertus' xIELU is not ours just below 0,
where it clamps."""

HIDDEN_ACTS = {
    True: {
        "silu": ActivationConfig("swiglu"),
        "gelu": ActivationConfig("geglu"),
        "gelu_pytorch_tanh": ActivationConfig("geglu", approximate="tanh"),
        "relu": ActivationConfig("reglu"),
    },
    False: {
        "silu": ActivationConfig("silu"),
        "gelu": ActivationConfig("gelu"),
        "gelu_pytorch_tanh": ActivationConfig("gelu", approximate="tanh"),
        "relu": ActivationConfig("relu"),
        "relu2": ActivationConfig("relu2"),
    },
}
"""What transformers' `hidden_act` means with (True) and without a gate."""


def stock_layout(config: DecoderConfig) -> tuple[StockLayout, str] | None:
    """The stock class that computes the decoder, and its `hidden_act`; None if there is none."""
    # An option that is set to its default is the same activation.
    options = {
        key: value for key, value in config.activation.options.items() if (key, value) != ("approximate", "none")
    }
    wanted = ActivationConfig(config.activation.name, **options)
    mixture = config.mixture_of_experts
    if mixture is not None and (mixture.shared_intermediate_size or mixture.selection_bias):
        return None
    asked = (mixture is not None, config.is_gated, config.qk_norm)
    for layout in STOCK_LAYOUTS:
        for hidden_act, activation in HIDDEN_ACTS[layout.gated].items():
            if (layout.sparse, layout.gated, layout.qk_norm) == asked and activation == wanted:
                return layout, hidden_act
    return None


def config_json(
    config: DecoderConfig, own: bool, dtype: str, tokenizer: Tokenizer, load_balance_loss_weight: float | None = None
) -> dict[str, Any]:
    """The config.json of a decoder; with `own` for the modeling files in the folder, also where a stock class would do.

    `load_balance_loss_weight` is that of the run, where it is known; a stock sparse class adds its loss on request.

    Raises:
        InputError: an activation that is not in the registry, whose code no folder can carry.
    """
    if config.activation.name not in ACTIVATIONS:
        raise InputError(
            f"activation.name: '{config.activation.name}' is a class of your own and not in the exported files; "
            f"known: {', '.join(ACTIVATIONS)}"
        )
    stock = None if own else stock_layout(config)
    common = _common(config, dtype, tokenizer)
    if stock is None:
        activation = {"name": config.activation.name, **config.activation.options}
        return {
            "architectures": [OWN_ARCHITECTURE],
            "model_type": OWN_MODEL_TYPE,
            "auto_map": AUTO_MAP,
            **common,
            "qk_norm": config.qk_norm,
            "activation": activation,
            **_own_experts(config),
        }
    layout, hidden_act = stock
    return {
        "architectures": [layout.architecture],
        "model_type": layout.model_type,
        **common,
        "hidden_act": hidden_act,
        # Newer versions of transformers write this, older ones read rope_theta.
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "attention_bias": False,
        "attention_dropout": 0.0,
        **(_olmoe_parts(config, load_balance_loss_weight) if layout.sparse else {"mlp_bias": False}),
    }


def _olmoe_parts(config: DecoderConfig, load_balance_loss_weight: float | None) -> dict[str, Any]:
    known = {} if load_balance_loss_weight is None else {"router_aux_loss_coef": load_balance_loss_weight}
    return {"clip_qkv": None, **_experts(config), **known}


def _own_experts(config: DecoderConfig) -> dict[str, Any]:
    if config.mixture_of_experts is None:
        return {}
    return {
        **_experts(config),
        "shared_expert_intermediate_size": config.shared_feed_forward_size,
        "selection_bias": config.mixture_of_experts.selection_bias,
    }


def _experts(config: DecoderConfig) -> dict[str, Any]:
    """OLMoE's names of what a mixture is."""
    mixture = config.mixture_of_experts
    return {
        "num_experts": mixture.num_experts,
        "num_experts_per_tok": mixture.experts_per_token,
        "norm_topk_prob": mixture.normalize_weights,
    }


def _common(config: DecoderConfig, dtype: str, tokenizer: Tokenizer) -> dict[str, Any]:
    deviation = config.initialization.standard_deviation or math.sqrt(2 / (5 * config.hidden_size))
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.feed_forward_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.key_value_heads,
        "head_dim": config.head_size,
        "max_position_embeddings": config.max_sequence_length,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "initializer_range": deviation,
        "use_cache": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": None,
        "dtype": dtype,
    }

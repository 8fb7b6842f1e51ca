"""The transformers library's form of a decoder and of a tokenizer: the yardstick of the fidelity tests.

Only what transformers' Llama can express: SwiGLU, no QK-norm.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.model import Decoder, DecoderConfig, InitializationConfig
from lightning_polycom.model.initialization import initialize

NAMES = {
    "embedding": "model.embed_tokens",
    "blocks": "model.layers",
    "attention_norm": "input_layernorm",
    "feed_forward_norm": "post_attention_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.up": "mlp.up_proj",
    "feed_forward.down": "mlp.down_proj",
    "norm": "model.norm",
    "head": "lm_head",
}


def llama_weights(decoder: Decoder) -> dict[str, Tensor]:
    """The decoder's weights under transformers' names."""
    result = {}
    for name, weight in decoder.state_dict().items():
        module = name.removesuffix(".weight")
        if module.startswith("blocks."):
            _, number, rest = module.split(".", 2)
            result[f"{NAMES['blocks']}.{number}.{NAMES[rest]}.weight"] = weight
        else:
            result[f"{NAMES[module]}.weight"] = weight
    return result


def llama(decoder: Decoder, eos: int, bos: int | None = None) -> Any:
    """A transformers LlamaForCausalLM (fp32, eval mode) with the decoder's weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = decoder.config
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.feed_forward_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.key_value_heads,
            max_position_embeddings=config.max_sequence_length,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=config.tie_embeddings,
            bos_token_id=bos,
            eos_token_id=eos,
            pad_token_id=None,
        )
    )
    model.load_state_dict(llama_weights(decoder))
    return model.eval()


def llama_tokenizer(tokenizer: Tokenizer, folder: Path, bos_token: str | None = None) -> Any:
    """The same tokenizer as transformers reads it; with a `bos_token` it puts that token before every text."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer.save(folder / "tokenizer.json")
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    if bos_token is not None:
        backend.post_processor = tokenizers.processors.TemplateProcessing(
            single=f"{bos_token} $A", special_tokens=[(bos_token, backend.token_to_id(bos_token))]
        )
    special = {"eos_token": tokenizer.eos_token, **({} if bos_token is None else {"bos_token": bos_token})}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def hf_backend(decoder: Decoder, tokenizer: Tokenizer, folder: Path, bos_token: str | None = None, **options) -> Any:
    """lm-eval's own `hf` model over the same weights and tokenizer."""
    from lm_eval.models.huggingface import HFLM

    fast = llama_tokenizer(tokenizer, folder, bos_token)
    return HFLM(pretrained=llama(decoder, fast.eos_token_id, fast.bos_token_id), tokenizer=fast, **options)


def swiglu_decoder(vocab_size: int, window: int, deviation: float = 0.15, **options: Any) -> Decoder:
    """A decoder that transformers can express; `deviation` spreads its weights, so that its predictions are decided.

    The padding token, id 1 in the tokenizers of the folder of real data, is never the most likely one: transformers
    drops it from texts.
    """
    from lightning_polycom.activations import ActivationConfig

    spread = InitializationConfig(standard_deviation=deviation, scale_residual_outputs=False)
    sizes = {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "intermediate_size": 192, **options}
    decoder = Decoder(
        DecoderConfig(
            vocab_size,
            activation=ActivationConfig("swiglu"),
            max_sequence_length=window,
            initialization=spread,
            **sizes,
        )
    )
    initialize(decoder, 3)
    with torch.no_grad():
        decoder.head.weight[1] = 0
    return decoder.eval()

"""The shape of a lightning_polycom decoder, as transformers reads it."""

from transformers import PretrainedConfig


class PolycomConfig(PretrainedConfig):
    """A pre-norm decoder with RMSNorm and rotary positions, without biases; the names are Llama's.

    Args:
        activation: `name` and options of the feed-forward's activation; see activations_polycom.py.
        qk_norm: RMSNorm on queries and keys: `none`, over each `head`, or over the whole `width`.
        intermediate_size: The real width of the feed-forward, or of one expert, gated or not.
        num_experts: Experts of a layer in place of its feed-forward; 0 for none.
        num_experts_per_tok: Experts that each token goes to.
        norm_topk_prob: Whether a token's weights are divided by their sum.
        shared_expert_intermediate_size: Real width of an expert that every token goes to as well; 0 for none.
        selection_bias: Whether each expert has a number that is added to its probability where experts are chosen.
    """

    model_type = "polycom"
    keys_to_ignore_at_inference = ("cache", "past_key_values")

    def __init__(
        self,
        vocab_size: int = 32000,
        hidden_size: int = 2048,
        intermediate_size: int = 8256,
        num_hidden_layers: int = 24,
        num_attention_heads: int = 16,
        num_key_value_heads: int | None = None,
        max_position_embeddings: int = 4096,
        rope_theta: float = 10000.0,
        rms_norm_eps: float = 1e-5,
        qk_norm: str = "none",
        activation: dict | None = None,
        num_experts: int = 0,
        num_experts_per_tok: int = 0,
        norm_topk_prob: bool = False,
        shared_expert_intermediate_size: int = 0,
        selection_bias: bool = False,
        initializer_range: float = 0.02,
        use_cache: bool = True,
        bos_token_id: int | None = None,
        eos_token_id: int | None = None,
        pad_token_id: int | None = None,
        tie_word_embeddings: bool = False,
        **kwargs,
    ):
        self.vocab_size, self.hidden_size, self.intermediate_size = vocab_size, hidden_size, intermediate_size
        self.num_hidden_layers, self.num_attention_heads = num_hidden_layers, num_attention_heads
        self.num_key_value_heads = num_key_value_heads or num_attention_heads
        self.head_dim = hidden_size // num_attention_heads
        self.max_position_embeddings, self.initializer_range = max_position_embeddings, initializer_range
        self.rope_theta, self.rms_norm_eps, self.qk_norm = rope_theta, rms_norm_eps, qk_norm
        self.activation, self.use_cache = activation or {"name": "polynorm"}, use_cache
        self.num_experts, self.num_experts_per_tok = num_experts, num_experts_per_tok
        self.norm_topk_prob, self.selection_bias = norm_topk_prob, selection_bias
        self.shared_expert_intermediate_size = shared_expert_intermediate_size
        super().__init__(**{key: value for key, value in kwargs.items() if key != "head_dim"})  # it follows
        # After the base class, which has values of its own for these in some versions, and in others none.
        self.bos_token_id, self.eos_token_id, self.pad_token_id = bos_token_id, eos_token_id, pad_token_id
        self.tie_word_embeddings = tie_word_embeddings

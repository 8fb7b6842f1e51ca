"""The feed-forward of a lightning_polycom decoder, dense, or a mixture of experts that drops no token."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .activations_polycom import GATED, build_activation
from .configuration_polycom import PolycomConfig


class PolycomExpert(nn.Module):
    """down(act(up(x))), or down(act(gate(x)) * up(x)) for a gated activation, which the caller has."""

    def __init__(self, config: PolycomConfig, size: int):
        super().__init__()
        self.gated = config.activation["name"] in GATED
        if self.gated:
            self.gate_proj = nn.Linear(config.hidden_size, size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, size, bias=False)
        self.down_proj = nn.Linear(size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, act_fn: nn.Module, *which: int) -> Tensor:
        """(..., hidden_size) -> same shape; `which` expert, where the activation has numbers for each."""
        if self.gated:
            return self.down_proj(act_fn(self.gate_proj(x), *which) * self.up_proj(x))
        return self.down_proj(act_fn(self.up_proj(x), *which))


class PolycomMLP(PolycomExpert):
    """A feed-forward that every token goes through, with an activation of its own."""

    def __init__(self, config: PolycomConfig, size: int):
        super().__init__(config, size)
        alone = {key: value for key, value in config.activation.items() if (key, value) != ("scope", "expert")}
        self.act_fn = build_activation(alone, size)

    def forward(self, x: Tensor) -> Tensor:
        """(..., hidden_size) -> same shape."""
        return super().forward(x, self.act_fn)


class PolycomRouter(nn.Module):
    """Softmax over all experts in fp32, then the largest; with a bias, chosen by probability plus bias."""

    def __init__(self, config: PolycomConfig):
        super().__init__()
        self.top_k, self.norm_topk_prob = config.num_experts_per_tok, config.norm_topk_prob
        self.weight = nn.Parameter(torch.zeros(config.num_experts, config.hidden_size))
        bias = torch.zeros(config.num_experts) if config.selection_bias else None
        self.register_buffer("e_score_correction_bias", bias)

    def reset_parameters(self, deviation: float) -> None:
        """The matrix at random, the bias, which is no parameter, to 0."""
        nn.init.normal_(self.weight, std=deviation)
        if self.e_score_correction_bias is not None:
            nn.init.zeros_(self.e_score_correction_bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(tokens, hidden_size) -> each token's experts (tokens, top_k), and their weights in fp32."""
        with torch.autocast(x.device.type, enabled=False):
            probabilities = F.linear(x.float(), self.weight.float()).softmax(-1)
        scores = probabilities
        if self.e_score_correction_bias is not None:
            scores = probabilities.detach() + self.e_score_correction_bias
        experts = scores.topk(self.top_k).indices
        weights = probabilities.gather(1, experts)
        if self.norm_topk_prob:
            weights = weights / weights.sum(-1, keepdim=True)
        return experts, weights


class PolycomSparseMLP(nn.Module):
    """The sum over a token's experts of weight * expert(x), and a shared expert's output where there is one.

    All experts share one activation, whose numbers are the layer's or, with its scope `expert`, each expert's own.
    """

    def __init__(self, config: PolycomConfig):
        super().__init__()
        self.gate = PolycomRouter(config)
        self.experts = nn.ModuleList(PolycomExpert(config, config.intermediate_size) for _ in range(config.num_experts))
        self.act_fn = build_activation(config.activation, config.intermediate_size, config.num_experts)
        self.per_expert = config.activation.get("scope") == "expert"
        shared = config.shared_expert_intermediate_size
        self.shared_expert = PolycomMLP(config, shared) if shared else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., hidden_size) -> same shape; only experts that a token goes to are computed."""
        tokens = x.flatten(0, -2)
        chosen, weights = self.gate(tokens)
        y = torch.zeros_like(tokens, dtype=torch.float32)
        for expert in chosen.unique().tolist():
            rows, places = (chosen == expert).nonzero(as_tuple=True)
            found = self.experts[expert](tokens[rows], self.act_fn, *([expert] if self.per_expert else []))
            y.index_add_(0, rows, (found * weights[rows, places, None]).to(y.dtype))
        y = y.to(x.dtype).view_as(x)
        return y if self.shared_expert is None else y + self.shared_expert(x)

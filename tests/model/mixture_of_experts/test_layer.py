import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_polycom.activations import ACTIVATIONS, ActivationConfig
from lightning_polycom.errors import InputError
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.initialization import initialize
from lightning_polycom.model.mixture_of_experts import MixtureOfExpertsConfig
from lightning_polycom.model.mixture_of_experts.layer import MixtureOfExperts

POLYNOMIALS = [name for name in ACTIVATIONS if name.startswith("poly")]


def built(
    name: str = "polynorm",
    experts: int = 4,
    chosen: int = 2,
    scope: str | None = None,
    recompute: bool = False,
    dtype: torch.dtype = torch.float32,
    **options,
) -> MixtureOfExperts:
    mixture = MixtureOfExpertsConfig(experts, chosen, **options)
    config = DecoderConfig(
        50, 32, 1, 4, 48, ActivationConfig(name, scope=scope), recompute_activation=recompute,
        mixture_of_experts=mixture,
    )  # fmt: skip
    decoder = Decoder(config)
    initialize(decoder, 5)
    layer = decoder.blocks[0].feed_forward
    if scope == "expert":
        with torch.no_grad():
            layer.activation.coefficients.normal_(0.3, 0.2, generator=torch.Generator().manual_seed(3))
    return layer.to(dtype)


def tokens(count: int = 14, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(count, 32, generator=generator).to(dtype).requires_grad_()


def looped(layer: MixtureOfExperts, x: torch.Tensor) -> torch.Tensor:
    """Every expert by itself on the tokens that chose it, from the definitions alone."""
    probabilities = F.linear(x, layer.router.weight).softmax(-1)
    scores = probabilities if layer.router.selection_bias is None else probabilities + layer.router.selection_bias
    experts = scores.topk(layer.router.experts_per_token).indices
    weights = probabilities.gather(1, experts)
    if layer.router.normalize_weights:
        weights = weights / weights.sum(-1, keepdim=True)
    rows = []
    for token, row in enumerate(x):
        outputs = [
            weights[token, place] * expert(layer, int(e), row[None])[0] for place, e in enumerate(experts[token])
        ]
        rows.append(sum(outputs))
    y = torch.stack(rows)
    return y if layer.shared is None else y + layer.shared(x)


def expert(layer: MixtureOfExperts, number: int, x: torch.Tensor) -> torch.Tensor:
    """One expert's feed-forward on rows x."""
    into = (layer.up,) if layer.gate is None else (layer.gate, layer.up)
    branches = [F.linear(x, matrix[number]) for matrix in into]
    options = {}
    if layer.activation.per_expert:  # all rows are this expert's
        ends = torch.zeros(len(layer.up), dtype=torch.int32)
        ends[number:] = len(x)
        options = {"offsets": ends}
    return F.linear(layer.activation(*branches, **options), layer.down[number])


def assert_equals_the_loop(layer: MixtureOfExperts, x: torch.Tensor, tolerance: float = 2e-5) -> None:
    found, _ = layer(x)
    expected = looped(layer, x)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    grad = torch.randn(found.shape, generator=torch.Generator().manual_seed(6)).to(found.dtype)
    inputs = {"x": x, **dict(layer.named_parameters())}
    ours = torch.autograd.grad(found, list(inputs.values()), grad)
    theirs = torch.autograd.grad(expected, list(inputs.values()), grad, allow_unused=True)
    for name, a, b in zip(inputs, ours, theirs, strict=True):
        b = torch.zeros_like(a) if b is None else b
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * 10, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_equals_a_loop_over_experts(name):
    assert_equals_the_loop(built(name), tokens())


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_coefficients_per_expert_equal_a_loop_over_experts(name):
    assert_equals_the_loop(built(name, scope="expert"), tokens())


@pytest.mark.parametrize(
    "options",
    [
        {"chosen": 1},
        {"chosen": 4},
        {"experts": 1, "chosen": 1},
        {"normalize_weights": True},
        {"shared_intermediate_size": 24},
        {"selection_bias": True},
        {"recompute": True},
        {"recompute": True, "scope": "expert", "shared_intermediate_size": 24, "selection_bias": True},
    ],
)
@pytest.mark.parametrize("name", ["polynorm", "swiglu"])
def test_options_equal_a_loop_over_experts(name, options):
    if name == "swiglu":
        options = {key: value for key, value in options.items() if key != "scope"}
    layer = built(name, **options)
    if layer.router.selection_bias is not None:
        layer.router.selection_bias.copy_(torch.tensor([0.3, -0.2, 0.0, 0.1]))
    assert_equals_the_loop(layer, tokens())


def test_in_fp64_it_is_the_loop():
    assert_equals_the_loop(built(dtype=torch.float64), tokens(dtype=torch.float64), 1e-12)


def test_one_token():
    assert_equals_the_loop(built(), tokens(1))


def test_empty_experts_and_all_tokens_to_one():
    layer = built(experts=8, chosen=1)
    with torch.no_grad():
        layer.router.weight.zero_()
        layer.router.weight[5] = 10 * torch.ones(32)
    x = tokens().detach().abs().requires_grad_()
    _, routing = layer(x)
    assert routing.tokens_per_expert.tolist() == [0, 0, 0, 0, 0, 14, 0, 0]
    assert_equals_the_loop(layer, x)


def test_nothing_is_dropped_and_sums_are_those_of_the_tokens():
    layer, x = built(), tokens()
    _, routing = layer(x)
    logits = F.linear(x, layer.router.weight)
    probabilities = logits.softmax(-1)
    assert int(routing.tokens_per_expert.sum()) == 14 * 2
    torch.testing.assert_close(routing.probabilities, probabilities.sum(0))
    torch.testing.assert_close(routing.squared_log_normalizer, logits.logsumexp(-1).square().sum())
    torch.testing.assert_close(routing.entropy, torch.distributions.Categorical(probabilities).entropy().sum())


def test_polynorm_normalises_over_the_units_of_one_token_in_one_expert():
    layer, x = built(chosen=1), tokens()
    with torch.no_grad():
        layer.activation.coefficients.copy_(torch.tensor([1.0, 0.0, 0.0]))
    found, _ = layer(x)
    chosen = F.linear(x, layer.router.weight).softmax(-1).max(-1)
    hidden = torch.stack([layer.up[e] @ row for e, row in zip(chosen.indices, x, strict=True)])
    hidden = hidden / hidden.square().mean(-1, keepdim=True).add(1e-6).sqrt()
    expected = torch.stack([layer.down[e] @ row for e, row in zip(chosen.indices, hidden, strict=True)])
    torch.testing.assert_close(found, expected * chosen.values[:, None], rtol=1e-5, atol=1e-6)


class NoReads(TorchDispatchMode):
    """Fails where a tensor's values decide about shapes or go to Python."""

    READS = ("_local_scalar_dense", "nonzero", "masked_select", "repeat_interleave.Tensor", "bincount")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not any(read in str(func) for read in self.READS), func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["polynorm", "swiglu"])
def test_the_host_is_asked_for_nothing(name):
    layer, x = built(name, shared_intermediate_size=24, selection_bias=True), tokens()
    with NoReads():
        y, routing = layer(x)
        (y.square().sum() + routing.probabilities.square().sum() + routing.squared_log_normalizer).backward()
    with pytest.raises(AssertionError), NoReads():
        x.sum().item()


def test_bf16_autocast_routes_in_fp32():
    layer, x = built("swiglu"), tokens()
    _, exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, routing = layer(x)
    assert routing.probabilities.dtype == torch.float32
    assert torch.equal(routing.probabilities, exact.probabilities)
    assert torch.equal(routing.tokens_per_expert, exact.tokens_per_expert)
    expected, _ = layer(x)
    assert y.dtype == torch.bfloat16 and (y - expected).norm() / expected.norm() < 0.01


def test_runs_are_bitwise_equal():
    layer, x = built(experts=8, chosen=3), tokens(300)
    found = []
    for _ in range(2):
        y, _ = layer(x)
        found.append([y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("scope", [None, "expert"])
def test_a_compiled_layer_is_one_graph_and_equal(scope):
    layer, x = built(scope=scope, shared_intermediate_size=24), tokens()
    parameters = list(layer.parameters())
    expected = torch.autograd.grad(layer(x)[0].square().sum(), parameters)
    compiled = torch.compile(layer, fullgraph=True, dynamic=False, backend="aot_eager")
    found = torch.autograd.grad(compiled(x)[0].square().sum(), parameters)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_experts": 0, "experts_per_token": 1}, "num_experts: found 0"),
        ({"num_experts": 4, "experts_per_token": 5}, "experts_per_token: found 5; give 1 to num_experts, 4"),
        ({"num_experts": 4, "experts_per_token": 0}, "experts_per_token: found 0"),
        ({"num_experts": 4, "experts_per_token": 1, "shared_intermediate_size": -1}, "shared_intermediate_size"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        DecoderConfig(50, 32, 1, 4, 48, mixture_of_experts=MixtureOfExpertsConfig(**options))


def test_start_depends_on_seed_and_name_only():
    first, second = built(), built("swiglu")
    assert torch.equal(first.router.weight, second.router.weight)
    assert isinstance(first.up, nn.Parameter) and first.up.shape == (4, 48, 32) and second.up.shape == (4, 32, 32)
    deviation = (2 / (5 * 32)) ** 0.5
    assert first.up.std().item() == pytest.approx(deviation, rel=0.05)
    assert first.down.std().item() == pytest.approx(deviation / 2**0.5, rel=0.05)

"""Sparse decoders out to a class of transformers or our own files, and back; OLMoE folders in."""

import json
from pathlib import Path

import pytest
import torch
from stock_folders import stock_folder
from tiny_exports import loaded, sparse, tiny, token_ids

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.checkpoints import load_decoder
from lightning_polycom.errors import InputError
from lightning_polycom.huggingface.decoder_config import decoder_config
from lightning_polycom.huggingface.export import export_checkpoint
from lightning_polycom.huggingface.import_ import import_folder
from lightning_polycom.huggingface.options import ExportOptions
from lightning_polycom.model.mixture_of_experts import MixtureOfExpertsConfig
from lightning_polycom.model.mixture_of_experts.balance import load_balance_loss, stack
from lightning_polycom.model.mixture_of_experts.routing import count

PER_EXPERT = ActivationConfig("polynorm", scope="expert")
SHARED = {"shared_intermediate_size": 24}
EXPERTS = {"num_experts": 5, "num_experts_per_tok": 3, "pad_token_id": None}
"""Options of a folder that transformers saves."""

STOCK = [
    sparse(),
    sparse("geglu", {"num_key_value_heads": 2, "tie_embeddings": True}, normalize_weights=True),
    sparse("reglu", num_experts=3, experts_per_token=3),
    sparse(ActivationConfig("geglu", approximate="tanh"), {"rope_theta": 500.0, "norm_eps": 1e-3}),
]
OWN = [
    sparse("polynorm"),
    sparse(PER_EXPERT, {"qk_norm": "none", "tie_embeddings": True}, **SHARED, normalize_weights=True),
    sparse(ActivationConfig("polyrelu_glu", scope="expert", bias=False, sigmoid=True), {"qk_norm": "head"}, **SHARED),
    sparse(ActivationConfig("polyprelu", scope="channel", order=2), **SHARED),
    sparse("swiglu", selection_bias=True),
    sparse("swiglu", {"qk_norm": "none"}),
    sparse("relu2", selection_bias=True, normalize_weights=True),
    sparse("xielu", {"num_key_value_heads": 1}, num_experts=1, experts_per_token=1),
]


def named(config) -> str | None:
    return config.activation.name if hasattr(config, "activation") else None


def check(export, config, architecture, **options):
    folder, decoder = export(config, **options)
    model = loaded(folder)
    assert type(model).__name__ == architecture
    ids = token_ids()
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, decoder(ids), rtol=0, atol=1e-5)
    assert sum(p.numel() for p in model.parameters()) == config.num_parameters
    return folder, model


@pytest.mark.parametrize("config", STOCK, ids=named)
def test_olmoe_computes_what_it_can(export, config):
    folder, model = check(export, config, "OlmoeForCausalLM")
    assert not list(folder.glob("*.py"))
    expected = config.mixture_of_experts
    found = model.config
    assert (found.num_experts, found.num_experts_per_tok) == (expected.num_experts, expected.experts_per_token)
    assert found.norm_topk_prob == expected.normalize_weights and found.clip_qkv is None


@pytest.mark.parametrize("config", OWN, ids=named)
def test_our_own_files_compute_the_rest(export, config):
    check(export, config, "PolycomForCausalLM")


@pytest.mark.parametrize("config", STOCK, ids=named)
def test_our_own_files_compute_the_same_as_olmoe(export, config):
    check(export, config, "PolycomForCausalLM", layout="own")


@pytest.mark.parametrize("options", [{}, {"layout": "own"}, {"max_shard_bytes": 9000}])
@pytest.mark.parametrize("config", [*STOCK, *OWN], ids=named)
def test_out_and_in_again_gives_the_same_bits(make_run, tmp_path, config, options):
    run, decoder = make_run(config)
    export_checkpoint(run, tmp_path / "exported", ExportOptions(**options))
    import_folder(tmp_path / "exported", tmp_path / "back")
    again, _ = load_decoder(tmp_path / "back")
    assert again.config.num_parameters == config.num_parameters
    assert again.config.num_active_parameters == config.num_active_parameters
    for (name, before), after in zip(decoder.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(before, after), name
    assert torch.equal(again(token_ids()), decoder(token_ids()))


def test_the_usual_config_comes_back_as_it_was(make_run, tmp_path):
    config = sparse(PER_EXPERT, {"intermediate_size": 96}, shared_intermediate_size=48, selection_bias=True)
    gated = sparse("polynorm_glu", {"intermediate_size": 96}, shared_intermediate_size=48, normalize_weights=True)
    for number, each in enumerate((config, gated, sparse("swiglu", {"intermediate_size": 96}))):
        run, _ = make_run(each, str(number))
        export_checkpoint(run, tmp_path / "exported")
        assert import_folder(tmp_path / "exported", tmp_path / f"back-{number}") == each


def test_one_expert_a_file_under_the_names_of_olmoe(export):
    from safetensors.torch import load_file

    folder, decoder = export(sparse())
    stored = load_file(folder / "model.safetensors")
    experts = decoder.blocks[1].feed_forward
    for number in range(5):
        for ours, theirs in (("gate", "gate_proj"), ("up", "up_proj"), ("down", "down_proj")):
            found = stored[f"model.layers.1.mlp.experts.{number}.{theirs}.weight"]
            assert torch.equal(found, getattr(experts, ours)[number])
    assert torch.equal(stored["model.layers.1.mlp.gate.weight"], experts.router.weight)
    assert len(stored) == 3 + 2 * (8 + 1 + 5 * 3)


@pytest.mark.parametrize("layout", ["auto", "own"])
def test_bf16_keeps_the_router_and_the_coefficients(export, layout):
    from safetensors.torch import load_file

    config = sparse("swiglu") if layout == "auto" else sparse(PER_EXPERT, selection_bias=True, **SHARED)
    folder, decoder = export(config, dtype="bf16")
    stored = load_file(folder / "model.safetensors")
    exact = {name for name in stored if ".act_fn." in name or ".mlp.gate." in name}
    assert {stored[name].dtype for name in exact} == {torch.float32}
    assert {tensor.dtype for name, tensor in stored.items() if name not in exact} == {torch.bfloat16}
    model, expected = loaded(folder), decoder.blocks[0].feed_forward
    if layout == "own":
        found = model.model.layers[0].mlp
        assert torch.equal(found.gate.weight, expected.router.weight)
        assert torch.equal(found.gate.e_score_correction_bias, expected.router.selection_bias)
        assert torch.equal(found.act_fn.coefficients, expected.activation.coefficients)
        assert found.experts[0].up_proj.weight.dtype == torch.bfloat16
    with torch.no_grad():
        difference = (model(token_ids()).logits.float() - decoder(token_ids())).abs()
    assert difference.median() < 0.02  # where two experts are nearly equal, another one may be chosen


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"norm_topk_prob": True, "hidden_act": "gelu", "intermediate_size": 44}, {"tie_word_embeddings": True}],
)
def test_a_folder_that_transformers_saved(tmp_path, prepared, options, fused):
    """Real OLMoE folders hold each expert's matrices; transformers 5 can save all experts' in one tensor too."""
    saving = {"save_original_format": not fused, "max_shard_size": "40KB"}
    model = stock_folder("OlmoeForCausalLM", tmp_path / "stock", prepared, saving, **EXPERTS, **options)
    index = (tmp_path / "stock/model.safetensors.index.json").read_text()
    assert ("experts.gate_up_proj" in index) == fused and ("experts.3.up_proj" in index) != fused
    config = import_folder(tmp_path / "stock", tmp_path / "imported")
    decoder, _ = load_decoder(tmp_path / "imported")
    with torch.no_grad():
        torch.testing.assert_close(decoder(token_ids()), model(token_ids()).logits, rtol=0, atol=1e-5)
    assert config.qk_norm == "width" and config.feed_forward_size == model.config.intermediate_size
    assert config.num_parameters == sum(p.numel() for p in model.parameters())
    export_checkpoint(tmp_path / "imported", tmp_path / "out")
    with torch.no_grad():
        torch.testing.assert_close(loaded(tmp_path / "out")(token_ids()).logits, model(token_ids()).logits)


RELEASED = {
    "architectures": ["OlmoeForCausalLM"], "attention_bias": False, "clip_qkv": None, "hidden_act": "silu",
    "hidden_size": 2048, "intermediate_size": 1024, "max_position_embeddings": 4096, "norm_topk_prob": False,
    "num_attention_heads": 16, "num_experts": 64, "num_experts_per_tok": 8, "num_hidden_layers": 16,
    "num_key_value_heads": 16, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0,
    "tie_word_embeddings": False, "vocab_size": 50304,
}  # fmt: skip
"""The shape of allenai/OLMoE-1B-7B-0924."""


def test_the_released_shape_has_the_published_numbers_of_parameters():
    config = decoder_config(Path("config.json"), RELEASED)
    assert config.num_parameters == 6_919_161_856
    assert config.num_active_parameters == config.num_parameters - 16 * 56 * 3 * 2048 * 1024
    assert config.mixture_of_experts == MixtureOfExpertsConfig(64, 8) and config.feed_forward_size == 1024


def test_the_balance_loss_of_a_layer_is_that_of_transformers(tmp_path, prepared):
    from transformers.models.olmoe.modeling_olmoe import load_balancing_loss_func

    model = stock_folder("OlmoeForCausalLM", tmp_path / "stock", prepared, **EXPERTS)
    import_folder(tmp_path / "stock", tmp_path / "imported")
    decoder, _ = load_decoder(tmp_path / "imported")
    ids = token_ids()
    with torch.no_grad():
        theirs = model(ids, output_router_logits=True).router_logits
        _, ours = decoder(ids, with_routings=True)
    assert len(theirs) == len(ours) == 2
    losses = []
    for logits, routing in zip(theirs, ours, strict=True):
        expected = load_balancing_loss_func((logits,), 5, 3)
        probabilities = logits.softmax(-1)
        from_logits = count(probabilities.topk(3).indices, 5), probabilities.sum(0)
        torch.testing.assert_close(load_balance_loss(*from_logits, ids.numel()), expected)
        found = load_balance_loss(routing.tokens_per_expert, routing.probabilities, ids.numel())
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        losses.append(expected.item())
    assert max(losses) > 3.01 and losses[0] != losses[1]  # 3 is an even load
    together = stack(ours)
    pooled = load_balance_loss(together.tokens_per_expert, together.probabilities, ids.numel(), pool_layers=True)
    torch.testing.assert_close(pooled, load_balancing_loss_func(theirs, 5, 3), rtol=1e-5, atol=1e-6)
    assert pooled.item() != pytest.approx(sum(losses) / 2)


def test_the_loss_weight_of_the_run_goes_out(make_run, tmp_path):
    run, _ = make_run(sparse())
    export_checkpoint(run, tmp_path / "unknown")
    assert "router_aux_loss_coef" not in json.loads((tmp_path / "unknown/config.json").read_text())
    path = run / "checkpoints/step-00000007.ckpt"
    checkpoint = torch.load(path)
    checkpoint["hyper_parameters"]["balancing"] = {"load_balance_loss_weight": 0.025}
    torch.save(checkpoint, path)
    export_checkpoint(run, tmp_path / "exported")
    model, ids = loaded(tmp_path / "exported"), token_ids()
    assert model.router_aux_loss_coef == 0.025
    with torch.no_grad():
        plain = model(ids, labels=ids).loss
        outputs = model(ids, labels=ids, output_router_logits=True)
    torch.testing.assert_close(outputs.loss, plain + 0.025 * outputs.aux_loss)


def edited(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clip_qkv": 8.0}, "has clip_qkv 8.0; the decoder has no such feature"),
        ({"attention_bias": True}, "has attention_bias True"),
        ({"hidden_act": "relu2"}, "has hidden_act 'relu2'; OlmoeForCausalLM is read with silu"),
        ({"num_experts": "five"}, "has num_experts 'five'; it must be a whole number"),
        ({"num_experts": 0}, "num_experts: found 0"),
        ({"num_experts_per_tok": 6}, "experts_per_token: found 6; give 1 to num_experts, 5"),
        ({"norm_topk_prob": "yes"}, "has norm_topk_prob 'yes'; it must be true or false"),
        ({"num_experts": 6}, r"lack model\.layers\.0\.mlp\.experts\.5\.down_proj\.weight and 5 more"),
        ({"num_experts": 4}, r"holds model\.layers\.0\.mlp\.experts\.4\.down_proj\.weight and 5 more, which"),
        ({"intermediate_size": 48}, r"experts\.0\.down_proj\.weight in .* has shape \(32, 40\); .* \(32, 48\)"),
        ({"architectures": ["LlamaForCausalLM"]}, r"lack model\.layers\.0\.mlp\.down_proj\.weight"),
    ],
)
def test_what_is_not_supported_is_refused_in_one_line(tmp_path, prepared, changes, words):
    stock_folder("OlmoeForCausalLM", tmp_path / "stock", prepared, **EXPERTS)
    edited(tmp_path / "stock", **changes)
    with pytest.raises(InputError, match=words) as error:
        import_folder(tmp_path / "stock", tmp_path / "imported")
    assert "\n" not in str(error.value) and not (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"selection_bias": 1}, "has selection_bias 1; it must be true or false"),
        ({"selection_bias": False}, r"holds model\.layers\.0\.mlp\.gate\.e_score_correction_bias and 1 more"),
        ({"shared_expert_intermediate_size": -1}, "shared_intermediate_size: found -1"),
        ({"shared_expert_intermediate_size": 0}, r"holds .*shared_expert"),
        ({"num_experts": None}, r"needs a mixture of experts"),
    ],
)
def test_own_folders_are_checked(export, tmp_path, changes, words):
    folder, _ = export(sparse(PER_EXPERT, selection_bias=True, **SHARED))
    edited(folder, **changes)
    with pytest.raises(InputError, match=words) as error:
        import_folder(folder, tmp_path / "imported")
    assert "\n" not in str(error.value)


def test_a_fused_tensor_of_another_width_is_refused(tmp_path, prepared):
    saving = {"save_original_format": False}
    stock_folder("OlmoeForCausalLM", tmp_path / "stock", prepared, saving, **EXPERTS)
    edited(tmp_path / "stock", intermediate_size=48)
    with pytest.raises(InputError, match=r"experts\.down_proj in .* has shape \(5, 32, 40\); .* \(5, 32, 48\)"):
        import_folder(tmp_path / "stock", tmp_path / "imported")


def test_a_dense_class_reads_no_experts(tmp_path, prepared):
    """Some dense folders name experts all the same; the class decides."""
    stock_folder("LlamaForCausalLM", tmp_path / "stock", prepared)
    edited(tmp_path / "stock", num_experts=8)
    assert import_folder(tmp_path / "stock", tmp_path / "imported").mixture_of_experts is None


def test_the_card_tells_of_experts(export):
    config = sparse(PER_EXPERT, selection_bias=True, normalize_weights=True, **SHARED)
    folder, _ = export(config)
    rows = (folder / "README.md").read_text().splitlines()
    for row in (
        f"| parameters | {config.num_parameters:,} |",
        f"| parameters active for a token | {config.num_active_parameters:,} |",
        "| experts | 5, of which 2 take each token, chosen with a selection bias |",
        "| weights of a token's experts | divided by their sum |",
        "| width of an expert | 48 |",
        "| width of the shared expert | 24 |",
    ):
        assert row in rows
    assert config.num_active_parameters < config.num_parameters
    assert not any("expert" in row for row in _card_rows_of_a_dense_one(folder))


def _card_rows_of_a_dense_one(folder) -> list[str]:
    from lightning_polycom.huggingface.model_card import model_card
    from lightning_polycom.huggingface.run_facts import RunFacts

    return model_card(tiny(), RunFacts(7, None, None, {}, {}, {}, {}), "x", True, "float32", None).splitlines()

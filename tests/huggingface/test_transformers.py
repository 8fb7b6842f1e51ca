"""What users of transformers do with an exported folder: generate, train, save, pad, look inside."""

import ast

import pytest
import torch
from tiny_exports import loaded, sparse, tiny, token_ids

from lightning_polycom.activations import ActivationConfig
from lightning_polycom.huggingface.files.modeling_polycom import visibility
from lightning_polycom.model import Decoder
from lightning_polycom.model.generation import generate
from lightning_polycom.model.loss import next_token_loss

SHAPE = {"qk_norm": "width", "num_key_value_heads": 2, "tie_embeddings": True}
PER_EXPERT = ActivationConfig("polynorm_glu", scope="expert")


@pytest.fixture(params=["dense", "sparse"])
def exported(request, export):
    """An export with our own modeling files and everything that can go wrong in them."""
    experts = sparse(PER_EXPERT, SHAPE, shared_intermediate_size=24, selection_bias=True, normalize_weights=True)
    folder, decoder = export(experts if request.param == "sparse" else tiny("polynorm_glu", **SHAPE))
    return loaded(folder), decoder


@pytest.mark.parametrize(
    "config",
    [tiny("polynorm"), tiny("swiglu"), tiny("relu2"), sparse("swiglu"), sparse(PER_EXPERT, selection_bias=True)],
)
def test_generate_with_and_without_cache_equals_ours(export, config):
    folder, decoder = export(config)
    model, ids = loaded(folder), token_ids(1, 9)
    found = [
        model.generate(ids, max_new_tokens=20, do_sample=False, eos_token_id=None, use_cache=use)[0, 9:].tolist()
        for use in (True, False)
    ]
    assert found[0] == found[1]
    assert found[0] == [token for _, token in generate(decoder, ids.tolist(), 20, temperature=0, top_p=1.0, seed=0)]


def test_the_cache_gives_the_logits_of_the_whole_text(exported):
    model, decoder = exported
    ids = token_ids(2, 20)
    with torch.no_grad():
        first = model(ids[:, :8], use_cache=True)
        cache = first.get("cache") or first.past_key_values
        middle = model(ids[:, 8:15], past_key_values=cache)
        last = model(ids[:, 15:16], past_key_values=cache)
        expected = decoder(ids[:, :16])
    found = torch.cat([output.logits for output in (first, middle, last)], dim=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", [tiny("swiglu"), tiny("polynorm"), sparse("polynorm")])
def test_left_padding_changes_nothing(export, config):
    folder, _ = export(config)
    model, short, long = loaded(folder), token_ids(1, 5), token_ids(1, 12)
    pad = 7
    batch = torch.cat([torch.cat([torch.full((1, pad), 3), short], dim=1), long])
    mask = torch.ones_like(batch)
    mask[0, :pad] = 0
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
    with torch.no_grad():
        together = model.generate(batch, attention_mask=mask, **options)
        alone = [model.generate(ids, **options) for ids in (short, long)]
    assert together[0, pad:].tolist() == alone[0][0].tolist()
    assert together[1].tolist() == alone[1][0].tolist()


def test_positions_follow_from_the_mask(exported):
    """With padding between two tokens: before the first it would not show, scores depend on distances only."""
    model, decoder = exported
    ids, mask = token_ids(1, 12), torch.ones(1, 12, dtype=torch.long)
    mask[0, 3:7] = 0
    kept = mask[0].bool()
    with torch.no_grad():
        found = model(ids, attention_mask=mask).logits[:, kept]
        torch.testing.assert_close(found, decoder(ids[:, kept]), rtol=0, atol=1e-5)


def test_every_query_sees_a_key_and_no_token_sees_padding():
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    seen = visibility(mask, past=1, length=4, device=mask.device)
    assert seen.shape == (2, 1, 4, 5) and seen.any(-1).all()
    assert seen[0, 0].tolist() == [
        [False, True, False, False, False],  # padding, which sees itself
        [False, False, True, False, False],
        [False, False, True, True, False],
        [False, False, True, True, True],
    ]
    assert torch.equal(seen[1, 0], torch.ones(4, 5).tril(1).bool())


def test_a_cache_of_fixed_size_without_a_mask(exported):
    from transformers import StaticCache

    model, decoder = exported
    cache, ids = StaticCache(config=model.config, max_cache_len=32), token_ids(1, 14)
    with torch.no_grad():
        found = [model(part, past_key_values=cache).logits for part in (ids[:, :6], ids[:, 6:13], ids[:, 13:])]
        torch.testing.assert_close(torch.cat(found, dim=1), decoder(ids), rtol=0, atol=1e-5)


def test_beams_a_fixed_cache_and_the_last_logits_only(exported):
    model, _ = exported
    ids = token_ids(2, 6)
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    with torch.no_grad():
        greedy = model.generate(ids, **options)
        fixed = model.generate(ids, cache_implementation="static", disable_compile=True, **options)
        assert torch.equal(fixed, greedy)
        assert model.generate(ids, num_beams=3, **options).shape == greedy.shape
        last, whole = model(ids, logits_to_keep=1), model(ids, output_hidden_states=True)
    torch.testing.assert_close(last.logits, whole.logits[:, -1:], rtol=0, atol=1e-6)
    assert len(whole.hidden_states) == 3
    torch.testing.assert_close(model.lm_head(whole.hidden_states[-1]), whole.logits)
    assert isinstance(model(ids, return_dict=False), tuple)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_loss_and_its_gradients_are_ours(exported, checkpointing):
    model, decoder = exported
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    ids = token_ids()
    loss = model(ids, labels=ids, use_cache=checkpointing).loss
    loss.backward()
    sums = next_token_loss(decoder(ids[:, :-1]), ids[:, 1:])
    expected = sums.total / sums.num_tokens
    expected.backward()
    torch.testing.assert_close(loss, expected)
    theirs = model.model.layers[0].mlp.act_fn.coefficients.grad
    ours = decoder.blocks[0].feed_forward.activation.coefficients.grad
    torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-6)
    if decoder.config.mixture_of_experts is not None:
        routers = model.model.layers[0].mlp.gate, decoder.blocks[0].feed_forward.router
        torch.testing.assert_close(*(router.weight.grad for router in routers), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(model.model.embed_tokens.weight.grad, decoder.embedding.weight.grad, rtol=0, atol=1e-5)


def test_saved_again_it_is_the_same(exported, tmp_path):
    model, _ = exported
    model.save_pretrained(tmp_path / "again")
    again = loaded(tmp_path / "again")
    assert again.lm_head.weight is again.model.embed_tokens.weight
    for (name, before), after in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(before, after), name


def test_a_new_model_from_the_config_starts_as_ours(exported):
    from transformers import AutoModelForCausalLM

    model, decoder = exported
    fresh = AutoModelForCausalLM.from_config(model.config, trust_remote_code=True)
    start = Decoder(decoder.config).blocks[0].feed_forward.activation
    activation = fresh.model.layers[0].mlp.act_fn
    assert torch.equal(activation.coefficients, start.coefficients) and torch.equal(activation.bias, start.bias)
    assert torch.equal(fresh.model.norm.weight, torch.ones(32))
    mlp = fresh.model.layers[0].mlp
    if decoder.config.mixture_of_experts is None:
        matrices = [mlp.up_proj.weight]
    else:
        matrices = [mlp.gate.weight, mlp.experts[4].up_proj.weight, mlp.shared_expert.down_proj.weight]
        assert torch.equal(mlp.gate.e_score_correction_bias, torch.zeros(5))
    assert all(0.5 < matrix.std() / model.config.initializer_range < 2 for matrix in matrices)


def test_the_folder_needs_no_lightning_polycom(export):
    folder, _ = export(tiny())
    allowed = {"", "math", "torch", "transformers", "typing"}
    assert len(list(folder.glob("*.py"))) == 4
    for path in folder.glob("*.py"):
        imports = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        names = [name for node in imports for name in _imported(node)]
        assert {name.split(".")[0] for name in names} <= allowed, path


def _imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports; an empty name for a file beside."""
    if isinstance(node, ast.ImportFrom):
        return ["" if node.level else node.module]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []

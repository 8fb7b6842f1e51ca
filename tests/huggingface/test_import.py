"""Folders of transformers, and our own exports, as a run's folder."""

import json

import pytest
import torch
from stock_folders import stock_folder
from tiny_exports import randomised, tiny, token_ids

from lightning_polycom.activations import ACTIVATIONS, ActivationConfig
from lightning_polycom.checkpoints import load_decoder
from lightning_polycom.errors import InputError
from lightning_polycom.huggingface.export import export_checkpoint
from lightning_polycom.huggingface.import_ import import_folder
from lightning_polycom.huggingface.options import ExportOptions


@pytest.mark.parametrize("options", [{}, {"layout": "own"}, {"max_shard_bytes": 9000}])
@pytest.mark.parametrize(
    "config",
    [
        tiny("swiglu", tie_embeddings=True),
        tiny("relu2", num_key_value_heads=1),
        tiny("geglu", qk_norm="head", norm_eps=1e-3, rope_theta=5e5),
        tiny(ActivationConfig("polynorm", order=2, scope="channel", coefficients=(0.25, 0.5)), tie_embeddings=True),
        tiny(ActivationConfig("polyrelu_glu", bias=False, sigmoid=True), qk_norm="width", gated_size_multiple=16),
        tiny("xielu"),
    ],
    ids=lambda value: value.activation.name if hasattr(value, "activation") else None,
)
def test_out_and_in_again_gives_the_same_bits(make_run, tmp_path, config, options):
    run, decoder = make_run(config)
    export_checkpoint(run, tmp_path / "exported", ExportOptions(**options))
    import_folder(tmp_path / "exported", tmp_path / "back")
    assert (tmp_path / "back/checkpoints/step-00000007.ckpt").is_file()
    again, tokenizer = load_decoder(tmp_path / "back")
    for (name, before), after in zip(decoder.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(before, after), name
    assert (again.head.weight is again.embedding.weight) == config.tie_embeddings
    for key in ("activation", "qk_norm", "feed_forward_size", "key_value_heads", "rope_theta", "norm_eps"):
        assert getattr(again.config, key) == getattr(config, key)
    assert again.config.num_parameters == config.num_parameters
    assert torch.equal(again(token_ids()), decoder(token_ids()))
    assert (tmp_path / "back/tokenizer.json").read_bytes() == (run / "tokenizer.json").read_bytes()
    assert tokenizer.eos_token == "<|endoftext|>"
    assert len(list((tmp_path / "exported").glob("*.safetensors"))) > 5 or "max_shard_bytes" not in options


def test_the_usual_config_comes_back_as_it_was(make_run, tmp_path):
    for name in ACTIVATIONS:
        run, decoder = make_run(tiny(name, intermediate_size=96), name)
        export_checkpoint(run, tmp_path / "exported")
        assert import_folder(tmp_path / "exported", tmp_path / f"back-{name}") == decoder.config


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("LlamaForCausalLM", {"rms_norm_eps": 1e-3}),
        ("LlamaForCausalLM", {"tie_word_embeddings": True, "hidden_act": "gelu", "intermediate_size": 41}),
        ("LlamaForCausalLM", {"rope_parameters": {"rope_type": "default", "rope_theta": 900.0}}),
        ("Qwen3ForCausalLM", {"head_dim": 8, "use_sliding_window": False}),
        ("ArceeForCausalLM", {"hidden_act": "relu2"}),
    ],
)
def test_a_folder_that_transformers_saved(tmp_path, prepared, architecture, options):
    model = stock_folder(architecture, tmp_path / "stock", prepared, **options)
    import_folder(tmp_path / "stock", tmp_path / "imported")
    decoder, tokenizer = load_decoder(tmp_path / "imported")
    with torch.no_grad():
        torch.testing.assert_close(decoder(token_ids()), model(token_ids()).logits, rtol=0, atol=1e-5)
    assert tokenizer.eos_token == "<|endoftext|>"


def test_half_precision_becomes_fp32(tmp_path, prepared):
    model = stock_folder("LlamaForCausalLM", tmp_path / "stock", prepared)
    model.to(torch.bfloat16).save_pretrained(tmp_path / "stock")
    import_folder(tmp_path / "stock", tmp_path / "imported")
    decoder, _ = load_decoder(tmp_path / "imported")
    assert torch.equal(decoder.embedding.weight, model.model.embed_tokens.weight.float())


def edited(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel; this version reads LlamaForCausalLM, Qwen3"),
        ({"architectures": None}, "is of None; this version reads"),
        ({"attention_bias": True}, "has attention_bias True"),
        ({"mlp_bias": True}, "has mlp_bias True"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "has rope_scaling of type 'linear'"),
        ({"rope_scaling": "linear"}, "has rope_scaling of type 'linear'"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5}}, "has rope_parameters of type 'llama3'"),
        ({"rope_parameters": {"rope_theta": 5e5, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_theta": "big", "rope_parameters": None}, "has rope_theta 'big'"),
        ({"sliding_window": 32}, "has sliding_window 32"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "has layer_types 'sliding_attention'"),
        ({"quantization_config": {"bits": 4}}, "has quantization_config"),
        ({"hidden_act": "quick_gelu"}, "has hidden_act 'quick_gelu'"),
        ({"head_dim": 16}, "has head_dim 16; only hidden_size / heads is read, 8"),
        ({"hidden_size": "wide"}, "has hidden_size 'wide'; it must be a whole number"),
        ({"rms_norm_eps": float("nan")}, "has rms_norm_eps nan; it must be a number"),
        ({"num_key_value_heads": 2.0}, "has num_key_value_heads 2.0"),
        ({"architectures": 3}, "is of 3; this version reads"),
        ({"layer_types": 3}, "has layer_types 3"),
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"num_attention_heads": 5}, "no even head size"),
        ({"num_hidden_layers": 3}, "lack model.layers.2.input_layernorm.weight and 8 more"),
        ({"num_hidden_layers": 1}, "holds model.layers.1.input_layernorm.weight and 8 more, which the decoder has no"),
        ({"intermediate_size": 48}, r"has shape \(40, 32\)|has shape \(32, 40\)"),
        ({"vocab_size": 599}, "has shape|rows"),
        ({"tie_word_embeddings": True}, "has an lm_head.weight of its own"),
    ],
)
def test_what_the_decoder_does_not_have_is_refused_by_name(tmp_path, prepared, changes, words):
    stock_folder("LlamaForCausalLM", tmp_path / "stock", prepared)
    edited(tmp_path / "stock", **changes)
    with pytest.raises(InputError, match=words) as error:
        import_folder(tmp_path / "stock", tmp_path / "imported")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"activation": {"name": "antigravity.Fly"}}, "antigravity.Fly.*known: relu"),
        ({"activation": "polynorm"}, "known: relu"),
        ({"activation": {"name": ["polynorm"]}}, "known: relu"),
        ({"activation": {"name": "polynorm", "coefficients": 3}}, "has activation {'coefficients': 3}; "),
        ({"activation": {"name": "polynorm", "speed": 3}}, "unknown option"),
        ({"activation": {"name": "polynorm", "order": 9}}, "activation.order"),
        ({"qk_norm": "depth"}, "has qk_norm 'depth'"),
    ],
)
def test_own_folders_are_checked_and_run_no_code(export, tmp_path, changes, words):
    folder, _ = export(tiny())
    for path in folder.glob("*.py"):
        path.write_text("raise SystemExit('the code of the folder was run')")
    import_folder(folder, tmp_path / "good")
    edited(folder, **changes)
    with pytest.raises(InputError, match=words):
        import_folder(folder, tmp_path / "imported")


def test_a_pickle_in_the_place_of_safetensors_is_refused(export, tmp_path):
    folder, decoder = export(tiny("swiglu"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds no model\.safetensors and no model\.safetensors\.index\.json"):
        import_folder(folder, tmp_path / "imported")
    torch.save(decoder.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"holds pytorch_model\.bin, a pickle that could run code"):
        import_folder(folder, tmp_path / "imported")
    torch.save(decoder.state_dict(), folder / "model.safetensors")
    with pytest.raises(InputError, match="damaged or no safetensors file"):
        import_folder(folder, tmp_path / "imported")


def test_damaged_folders_are_refused(export, tmp_path):
    folder, _ = export(tiny("swiglu"), max_shard_bytes=20_000)
    index = folder / "model.safetensors.index.json"
    shard = sorted(folder.glob("model-*.safetensors"))[0]
    cut = shard.read_bytes()
    shard.write_bytes(cut[: len(cut) // 2])
    with pytest.raises(InputError, match=f"{shard.name} is damaged"):
        import_folder(folder, tmp_path / "imported")
    shard.unlink()
    with pytest.raises(InputError, match=f"names '{shard.name}', which is not in"):
        import_folder(folder, tmp_path / "imported")
    (tmp_path / "outside.safetensors").write_bytes(cut)
    for content in ("{}", '{"weight_map": {"a": "../outside.safetensors"}}', "[1]", "{"):
        index.write_text(content)
        with pytest.raises(InputError, match=r"index\.json"):
            import_folder(folder, tmp_path / "imported")
    (folder / "config.json").write_text("not JSON")
    with pytest.raises(InputError, match=r"config\.json is no JSON"):
        import_folder(folder, tmp_path / "imported")
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json is missing"):
        import_folder(folder, tmp_path / "imported")
    with pytest.raises(InputError, match="is no folder"):
        import_folder(folder / "config.json", tmp_path / "imported")


def test_quantised_tensors_and_biases_are_refused(export, tmp_path):
    from safetensors.torch import load_file, save_file

    folder, _ = export(tiny("swiglu"))
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)}, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"holds model\.layers\.0\.self_attn\.q_proj\.bias"):
        import_folder(folder, tmp_path / "imported")
    save_file(weights | {"model.norm.weight": torch.ones(32, dtype=torch.int8)}, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.norm\.weight in model\.safetensors is torch\.int8"):
        import_folder(folder, tmp_path / "imported")
    old = weights | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    save_file(old, folder / "model.safetensors")
    import_folder(folder, tmp_path / "imported")


def test_outputs_are_not_written_over(export, tmp_path):
    folder, _ = export(tiny("swiglu"))
    import_folder(folder, tmp_path / "imported")
    with pytest.raises(InputError, match="exists and was not written by this command"):
        import_folder(folder, tmp_path / "imported")
    assert randomised(tiny("swiglu")).config == load_decoder(tmp_path / "imported")[0].config

"""AutoModelForCausalLM on an exported folder computes what our decoder computes."""

import pytest
import torch
from tiny_exports import loaded, tiny, token_ids

from lightning_polycom.activations import ACTIVATIONS, ActivationConfig
from lightning_polycom.errors import InputError

STOCK = {
    "LlamaForCausalLM": ["swiglu", "geglu", "reglu"],
    "ArceeForCausalLM": ["relu", "relu2", "gelu", "silu"],
}
NAMES = {name: architecture for architecture, names in STOCK.items() for name in names}


def check(export, config, architecture, **options):
    folder, decoder = export(config, **options)
    model = loaded(folder)
    assert type(model).__name__ == architecture
    ids = token_ids()
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, decoder(ids), rtol=0, atol=1e-5)
    theirs = sum(p.numel() for p in model.parameters())
    assert theirs == config.num_parameters


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(export, name):
    check(export, tiny(name), NAMES.get(name, "PolycomForCausalLM"))


@pytest.mark.parametrize("name", NAMES)
def test_our_own_files_compute_the_same_as_the_stock_classes(export, name):
    check(export, tiny(name), "PolycomForCausalLM", layout="own")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("qk_norm", ["none", "head", "width"])
@pytest.mark.parametrize("name", ["swiglu", "polynorm_glu", "relu2", "polyrelu"])
def test_every_shape(export, name, qk_norm, tied):
    options = {"qk_norm": qk_norm, "tie_embeddings": tied, "rope_theta": 500.0, "norm_eps": 1e-3}
    stock = {("swiglu", "none"): "LlamaForCausalLM", ("swiglu", "head"): "Qwen3ForCausalLM"}
    stock[("relu2", "none")] = "ArceeForCausalLM"
    check(export, tiny(name, num_key_value_heads=2, **options), stock.get((name, qk_norm), "PolycomForCausalLM"))


@pytest.mark.parametrize(("name", "architecture"), [("gelu", "ArceeForCausalLM"), ("geglu", "LlamaForCausalLM")])
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_both_gelus_have_a_stock_class(export, name, approximate, architecture):
    check(export, tiny(ActivationConfig(name, approximate=approximate)), architecture)


def test_a_class_of_your_own_is_refused(make_run, tmp_path, monkeypatch):
    from lightning_polycom.huggingface.export import export_checkpoint

    (tmp_path / "mine.py").write_text(
        "from lightning_polycom.activations import Activation\n"
        "class Mine(Activation):\n    def forward(self, x): return x.sin()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run, _ = make_run(tiny("mine.Mine"))
    with pytest.raises(InputError, match=r"'mine\.Mine' is a class of your own"):
        export_checkpoint(run, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_bf16_halves_the_weights_and_keeps_the_coefficients(export):
    from safetensors.torch import load_file

    folder, decoder = export(tiny(qk_norm="head"), dtype="bf16")
    stored = load_file(folder / "model.safetensors")
    types = {name: tensor.dtype for name, tensor in stored.items()}
    assert {types[name] for name in types if ".act_fn." in name} == {torch.float32}
    assert {types[name] for name in types if ".act_fn." not in name} == {torch.bfloat16}
    model = loaded(folder)
    assert model.dtype == torch.bfloat16
    activation = model.model.layers[1].mlp.act_fn
    assert torch.equal(activation.coefficients, decoder.blocks[1].feed_forward.activation.coefficients)
    ids = token_ids()
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits.float(), decoder(ids), rtol=0, atol=0.2)

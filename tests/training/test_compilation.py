"""Compiled blocks: one graph for all, the same numbers, nothing kept that recomputation drops, eager where asked."""

import pytest
import torch
import torch._inductor.config
from counting_backend import CountingBackend

from lightning_polycom.activations import ACTIVATIONS, ActivationConfig
from lightning_polycom.errors import InputError
from lightning_polycom.evaluation.live_decoder import borrowed
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.initialization import initialize
from lightning_polycom.training import compilation

WIDTH = 96  # of the feed-forward, and of nothing else


def decoder(name: str = "polynorm", num_layers: int = 2, recompute: bool = False) -> Decoder:
    # Two thirds of 144 for a gated activation.
    size = 144 if ACTIVATIONS[name].gated else WIDTH
    config = DecoderConfig(
        61, 32, num_layers, 2, size, ActivationConfig(name), max_sequence_length=16, recompute_activation=recompute
    )
    model = Decoder(config)
    initialize(model, 1)
    return model


def tokens(batch: int = 3, length: int = 16) -> torch.Tensor:
    return torch.randint(0, 61, (batch, length), generator=torch.Generator().manual_seed(2))


def gradients(model: Decoder) -> list[torch.Tensor]:
    loss = model(tokens()).float().logsumexp(-1).mean()
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


def kept_of_feed_forward_width(model: Decoder) -> int:
    kept = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(tokens())
    rows = tokens().numel()
    return len({t.untyped_storage().data_ptr() for t in kept if t.numel() == rows * WIDTH and t.shape[-1] == WIDTH})


def test_twelve_blocks_share_one_graph_and_keep_their_names():
    model, backend = decoder(num_layers=12), CountingBackend()
    names = list(model.state_dict())
    compilation.compile_blocks(model, backend)
    for _ in range(3):
        gradients(model)
    assert backend.graphs == 1
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_one_graph_with_the_eager_gradients(name, recompute):
    eager, model, backend = decoder(name), decoder(name, recompute=recompute), CountingBackend()
    compilation.compile_blocks(model, backend)
    for expected, found in zip(gradients(eager), gradients(model), strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-6)
    assert backend.graphs == 1


@pytest.mark.parametrize("name", ["polynorm", "polyrelu", "swiglu"])
def test_recomputation_keeps_one_tensor_less_a_layer_when_compiled(name):
    kept = []
    for recompute in (False, True):
        model = decoder(name, recompute=recompute)
        compilation.compile_blocks(model, CountingBackend())
        kept.append(kept_of_feed_forward_width(model))
    assert kept[0] - kept[1] == 2, kept


def test_nothing_is_traced_for_batches_of_other_shapes_than_trainings():
    model, backend = decoder(), CountingBackend()
    compilation.compile_blocks(model, backend)
    before = gradients(model)
    with compilation.uncompiled(), torch.no_grad():
        model(tokens(1, 5))
    with borrowed(model):
        model(tokens(2, 7))
    assert all(torch.equal(a, b) for a, b in zip(before, gradients(model), strict=True))
    assert backend.graphs == 1
    with torch.no_grad():
        model(tokens(2, 7))
    assert backend.graphs == 2  # the count does see what would have been traced


@pytest.mark.slow
def test_more_runs_in_one_process_than_torch_compiles_of_a_function():
    for num_layers in range(1, torch._dynamo.config.recompile_limit + 3):
        model, backend = decoder("relu" if num_layers % 2 else "gelu", num_layers), CountingBackend()
        compilation.compile_blocks(model, backend)
        gradients(model)
        assert backend.graphs == 1


def test_data_parallel_training_does_not_cut_the_graph(tmp_path):
    torch.distributed.init_process_group("gloo", f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        # Matrices of more than a mebibyte, after which the first bucket of gradients is full.
        model, backend = Decoder(DecoderConfig(61, 256, 2, 2, 2048, max_sequence_length=16)), CountingBackend()
        compilation.compile_blocks(model, backend)
        torch.nn.parallel.DistributedDataParallel(model)(tokens()).sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert backend.graphs == 1


def test_a_missing_compiler_is_named(monkeypatch):
    cpu = torch.device("cpu")
    no_compiler = torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")})
    with (
        no_compiler,
        pytest.raises(InputError, match=r"model.compile: no C\+\+ compiler found \(tried no-such-compiler"),
    ):
        compilation.require_compiler(cpu)
    monkeypatch.setattr(compilation, "_missing_cpp_compiler", lambda: None)
    monkeypatch.setattr(compilation, "_include_folders", lambda: ["no/such/folder"])
    with pytest.raises(InputError, match=r"model.compile: no Python.h found"):
        compilation.require_compiler(cpu)


def test_a_gpu_needs_triton(monkeypatch):
    monkeypatch.setattr("torch.utils._triton.has_triton_package", lambda: False)
    with pytest.raises(InputError, match=r"model.compile: no Triton found .*set model.compile to false"):
        compilation.require_compiler(torch.device("cuda"))

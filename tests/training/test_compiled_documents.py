"""Compiled blocks over documents of other lengths in every batch: one graph, the eager gradients."""

import pytest
import torch
from counting_backend import CountingBackend
from torch import Tensor

from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.document_attention import Documents, flex, segments
from lightning_polycom.model.initialization import initialize
from lightning_polycom.training.compilation import compile_blocks, missing_compiler

LENGTHS = ([16], [1, 7, 8], [5, 5, 5, 1], [2] * 8)
OPTIONS = [{}, {"num_key_value_heads": 1, "qk_norm": "head", "recompute_activation": True}]

builds_code = pytest.mark.skipif(
    (missing := missing_compiler(torch.device("cpu"))) is not None, reason=f"cannot be tested: {missing}"
)


def decoder(**options) -> Decoder:
    model = Decoder(DecoderConfig(61, 32, 3, 2, 64, max_sequence_length=16, **options))
    initialize(model, 1)
    return model


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    rows = [torch.cat([torch.arange(length) for length in lengths]) for lengths in LENGTHS]
    pairs = zip(rows, [*rows[1:], rows[0]], strict=True)
    return [(torch.randint(0, 61, (2, 16), generator=generator), torch.stack(pair)) for pair in pairs]


def gradients(model: Decoder, ids: Tensor, positions: Tensor | None) -> list[Tensor]:
    loss = model(ids, positions).float().logsumexp(-1).mean()
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dense", [False, True])
def test_documents_of_any_lengths_share_one_graph(monkeypatch, options, dense):
    if dense:
        monkeypatch.setattr(segments, "AVAILABLE", False)
    eager, model, backend = decoder(**options), decoder(**options), CountingBackend()
    compile_blocks(model, backend)
    for batch in batches():
        for expected, found in zip(gradients(eager, *batch), gradients(model, *batch), strict=True):
            torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-6)
    assert backend.graphs == 1
    gradients(model, batches()[0][0], None)
    assert backend.graphs == 2  # the count does see another structure


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flexs_blocks_are_inputs_of_one_graph(monkeypatch):
    monkeypatch.setattr(
        "lightning_polycom.model.decoder.prepare", lambda positions, _: Documents(positions, flex.block_mask(positions))
    )
    model, backend = decoder(), CountingBackend()
    eager = decoder()
    compile_blocks(model, backend)
    with torch.no_grad():  # flex_attention has no backward on a CPU
        for ids, positions in batches():
            torch.testing.assert_close(model(ids, positions), eager(ids, positions), rtol=1e-5, atol=1e-5)
    assert backend.graphs == 1


@builds_code
@pytest.mark.slow
def test_built_code_gives_the_eager_gradients():
    eager, model = decoder(num_key_value_heads=1), decoder(num_key_value_heads=1)
    compile_blocks(model)
    for batch in batches():
        for expected, found in zip(gradients(eager, *batch), gradients(model, *batch), strict=True):
            torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-6)

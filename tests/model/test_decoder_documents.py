"""A decoder that keeps documents apart: each is computed as if it stood alone in a row."""

import copy

import pytest
import torch
from torch import Tensor

from lightning_polycom.activations import ACTIVATIONS, ActivationConfig
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model import decoder as decoder_module
from lightning_polycom.model.document_attention import segments
from lightning_polycom.model.initialization import initialize
from lightning_polycom.model.loss import next_token_loss
from lightning_polycom.model.rotary import rotary_table

OPTIONS = [{}, {"num_key_value_heads": 2}, {"qk_norm": "head"}, {"qk_norm": "width", "num_key_value_heads": 1}]
LENGTHS = (1, 7, 12, 4)
SLICES = [slice(sum(LENGTHS[:i]), sum(LENGTHS[: i + 1])) for i in range(len(LENGTHS))]


def built(name: str = "polynorm", **options) -> Decoder:
    decoder = Decoder(DecoderConfig(61, 32, 2, 4, 64, ActivationConfig(name), **options))
    initialize(decoder, 0)
    for parameter in decoder.parameters():
        parameter.data.mul_(2)  # so that attention is far from uniform
    return decoder


def packed() -> tuple[Tensor, Tensor]:
    ids = torch.randint(0, 61, (2, sum(LENGTHS)), generator=torch.Generator().manual_seed(3))
    return ids, torch.cat([torch.arange(length) for length in LENGTHS]).expand(2, -1).contiguous()


@pytest.fixture(params=["segments", "dense"])
def way(request, monkeypatch) -> str:
    if request.param == "dense":
        monkeypatch.setattr(segments, "AVAILABLE", False)
    return request.param


@pytest.mark.parametrize("options", OPTIONS)
def test_a_document_has_the_logits_it_has_alone(way, options):
    decoder, (ids, positions) = built(**options), packed()
    together = decoder(ids, positions)
    for part in SLICES:
        torch.testing.assert_close(together[:, part], decoder(ids[:, part]), rtol=1e-5, atol=1e-5)
    assert (together[:, SLICES[1]] - decoder(ids)[:, SLICES[1]]).abs().max() > 1e-3  # it does matter


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_another_document_changes_no_bit(way, name):
    decoder, (ids, positions) = built(name), packed()
    other_ids, other_positions = ids.clone(), positions.clone()
    other_ids[:, :8] = (ids[:, :8] + 1) % 61
    other_positions[:, :8] = torch.tensor([0, 1, 2, 0, 1, 0, 1, 2])
    before, after = decoder(ids, positions), decoder(other_ids, other_positions)
    assert torch.equal(before[:, 8:], after[:, 8:])
    assert (before[:, :8] != after[:, :8]).any()
    labels = torch.randint(0, 61, ids.shape)
    losses = [next_token_loss(logits[:, SLICES[2]], labels[:, SLICES[2]])[0] for logits in (before, after)]
    assert losses[0] == losses[1]


def test_rotary_angles_begin_again_with_each_document(monkeypatch):
    # Scores depend on distances only, so that logits alone would not show it.
    seen = []
    monkeypatch.setattr(decoder_module, "rotary_table", lambda *a: seen.append(rotary_table(*a)) or seen[-1])
    decoder, (ids, positions) = built(), packed()
    decoder(ids, positions)
    alone = rotary_table(torch.arange(12), 8, 10000.0)
    for table, expected in zip(seen[0], alone, strict=True):
        assert table.shape == (2, 1, 24, 8)
        assert all(torch.equal(row[0, SLICES[2]], expected) for row in table)


def test_one_document_is_the_plain_causal_path(way):
    decoder, (ids, _) = built(), packed()
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    torch.testing.assert_close(decoder(ids, positions), decoder(ids), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [*OPTIONS, {"recompute_activation": True}])
def test_the_gradients_are_the_sum_of_the_documents_own(way, options):
    decoder, (ids, positions) = built(**options), packed()
    alone = copy.deepcopy(decoder)
    labels = torch.randint(0, 61, ids.shape)
    next_token_loss(decoder(ids, positions), labels)[0].backward()
    for part in SLICES:
        next_token_loss(alone(ids[:, part]), labels[:, part])[0].backward()
    for (name, one), other in zip(decoder.named_parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_under_bf16_autocast_documents_stay_apart(way):
    decoder, (ids, positions) = built(qk_norm="head", num_key_value_heads=2), packed()
    with torch.autocast("cpu", torch.bfloat16):
        together = decoder(ids, positions)
        changed = decoder(torch.cat([(ids[:, :8] + 1) % 61, ids[:, 8:]], dim=1), positions)
    assert together.dtype == torch.bfloat16 and torch.equal(together[:, 8:], changed[:, 8:])
    torch.testing.assert_close(together.float(), decoder(ids, positions), rtol=0.1, atol=0.5)
    next_token_loss(together, ids)[0].backward()
    assert all(p.grad.isfinite().all() for p in decoder.parameters())

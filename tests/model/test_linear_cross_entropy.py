"""The chunked loss against the loss of whole logits: values at every dtype, gradients, and what is held at once."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional as F

from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model import linear_cross_entropy as subject
from lightning_polycom.model.linear_cross_entropy import chunked_linear_cross_entropy, linear_cross_entropy
from lightning_polycom.model.loss import IGNORE_INDEX, next_token_loss

VOCABULARY, HIDDEN = 50304, 64


def whole(hidden, weight, labels, *options):
    return next_token_loss(F.linear(hidden, weight), labels, *options)


LOSSES = (whole, chunked_linear_cross_entropy)


def realistic(num_tokens=1024, vocabulary=VOCABULARY, hidden=HIDDEN, dtype=torch.float32):
    """Logits as of a trained model: a deviation of 3, and a label that is among the likelier tokens."""
    torch.manual_seed(0)
    states, weight = torch.randn(2, num_tokens // 2, hidden), torch.randn(vocabulary, hidden) * (3 / hidden**0.5)
    likely = (states @ weight.T - torch.empty(2, num_tokens // 2, vocabulary).exponential_().log()).argmax(-1)
    likely[0, ::7] = IGNORE_INDEX
    return states.to(dtype), weight.to(dtype), likely


def exact(hidden, weight, labels, z_loss_weight=0.0):
    """The fp64 loss of these very inputs, bf16 or not."""
    return next_token_loss(hidden.double() @ weight.double().T, labels, z_loss_weight, with_token_losses=True)


@pytest.fixture(scope="module")
def trained():
    return realistic()


@pytest.mark.parametrize("way", ["float32", "bfloat16", "autocast"])
def test_the_loss_is_accurate_at_every_dtype(trained, way):
    hidden, weight, labels = trained
    low = way == "bfloat16"
    hidden, weight = (t.to(torch.bfloat16 if low else torch.float32).requires_grad_() for t in (hidden, weight))
    with torch.autocast("cpu", torch.bfloat16) if way == "autocast" else nullcontext():
        found = linear_cross_entropy(hidden, weight, labels, 1e-3, with_token_losses=True)
    if way == "autocast":
        hidden, weight = hidden.bfloat16(), weight.bfloat16()
    with torch.no_grad():
        expected = exact(hidden, weight, labels, 1e-3)
    for name in ("total", "negative_log_likelihood", "squared_log_normalizer"):
        value = getattr(found, name)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(getattr(expected, name).item(), rel=1e-4 if way != "float32" else 1e-6)
    assert found.num_tokens == expected.num_tokens
    limit = 1e-4 if way == "float32" else 0.1  # bf16 logits up to 16 are rounded by up to 2^-5
    torch.testing.assert_close(found.token_losses.double(), expected.token_losses, rtol=0, atol=limit)


@pytest.mark.parametrize(("way", "limit"), [("float32", 1e-6), ("bfloat16", 1e-2), ("autocast", 1e-2)])
def test_gradients_equal_those_of_whole_logits(way, limit):
    hidden, weight, labels = realistic(64, 997, dtype=torch.bfloat16 if way == "bfloat16" else torch.float32)
    gradients = []
    for loss in LOSSES:
        inputs = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
        with torch.autocast("cpu", torch.bfloat16) if way == "autocast" else nullcontext():
            total = loss(*inputs, labels, 1e-3).total
        gradients.append(torch.autograd.grad(total / 50, inputs))
    for plain, chunked, of in zip(*gradients, (hidden, weight), strict=True):
        assert chunked.dtype == of.dtype and chunked.shape == of.shape
        assert (chunked - plain).norm() <= limit * plain.norm()


def test_the_gradient_of_a_bf16_weight_is_summed_in_fp32(monkeypatch):
    """Rounded once, at the end: as near to the fp64 gradient after 256 chunks as in one product."""
    monkeypatch.setattr(subject, "CHUNK_SHARE", 512)
    hidden, weight, labels = realistic(4096, 61, dtype=torch.bfloat16)
    assert 4096 / subject.chunk_plan(4096, weight.shape, torch.bfloat16, weight.device).rows > 256
    doubles = [t.double().requires_grad_() for t in (hidden, weight)]
    expected = torch.autograd.grad(whole(*doubles, labels).total, doubles[1])[0]
    weight.requires_grad_()
    errors = []
    for loss in LOSSES:
        found = torch.autograd.grad(loss(hidden, weight, labels).total, weight)[0]
        errors.append(((found - expected).norm() / expected.norm()).item())
    assert errors[1] < 1.2 * errors[0]


@pytest.mark.parametrize("z_loss_weight", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(2, 13), (1, 1)])
@pytest.mark.parametrize("ignored", [slice(0, 0), slice(1, None, 3), slice(None)])
def test_gradients_in_fp64(shape, ignored, z_loss_weight):
    """Exactly those of whole logits, and the slope along a random direction by finite differences.

    torch's gradcheck goes through one graph many times, which the chunked loss refuses.
    """
    torch.manual_seed(1)
    hidden, weight = torch.randn(*shape, 5, dtype=torch.float64), torch.randn(19, 5, dtype=torch.float64)
    labels = torch.randint(0, 19, shape)
    labels.view(-1)[ignored] = IGNORE_INDEX
    inputs, results = [hidden.requires_grad_(), weight.requires_grad_()], []
    for loss in LOSSES:
        sums = loss(*inputs, labels, z_loss_weight, True)
        results.append([t.detach() for t in (*sums, *torch.autograd.grad(0.7 * sums.total, inputs))])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)
    directions, step = [torch.randn_like(t) for t in inputs], 1e-5
    with torch.no_grad():
        moved = [[t + sign * d for t, d in zip(inputs, directions, strict=True)] for sign in (step, -step)]
    ends = [chunked_linear_cross_entropy(*m, labels, z_loss_weight) for m in moved]
    slope = sum((g * d).sum() for g, d in zip(results[1][-2:], directions, strict=True))
    torch.testing.assert_close(0.7 * (ends[0].total - ends[1].total) / (2 * step), slope, rtol=1e-6, atol=1e-8)


def test_uneven_chunks_cover_every_row():
    plan = subject.chunk_plan(1002, torch.Size((997, 64)), torch.float32, torch.device("cpu"))
    assert plan.rows < 126 and 1002 % plan.rows
    hidden, weight, labels = realistic(1002, 997)
    found, expected = (
        chunked_linear_cross_entropy(hidden, weight, labels, 0.1, True),
        whole(hidden, weight, labels, 0.1),
    )
    torch.testing.assert_close(found[:4], expected[:4])
    assert (found.token_losses.view(-1)[labels.view(-1) != IGNORE_INDEX] > 0).all()


def test_inputs_need_not_be_contiguous():
    hidden, weight, labels = realistic(64, 211)
    inputs = (hidden.transpose(0, 1).contiguous().transpose(0, 1), weight.T.contiguous().T, labels.T.contiguous().T)
    results = []
    for loss, (h, w, y) in ((whole, (hidden, weight, labels)), (chunked_linear_cross_entropy, inputs)):
        h, w = h.detach().requires_grad_(), w.detach().requires_grad_()
        sums = loss(h, w, y)
        results.append((sums.total.detach(), *torch.autograd.grad(sums.total, (h, w))))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_what_is_frozen_gets_no_gradient(frozen):
    hidden, weight, labels = realistic(64, 211)
    trained = weight if frozen == "hidden" else hidden
    trained.requires_grad_()
    results = [torch.autograd.grad(f(hidden, weight, labels).total, trained)[0] for f in LOSSES]
    torch.testing.assert_close(*results)


def test_without_gradients_no_work_is_done_for_them(monkeypatch):
    hidden, weight, labels = realistic(64, 211)
    weight.requires_grad_()
    expected = whole(hidden, weight, labels)
    monkeypatch.setattr(subject, "_add_product", lambda *_: pytest.fail("the weight's gradient was computed"))
    with torch.no_grad():
        found = chunked_linear_cross_entropy(hidden, weight, labels)
    assert not found.total.requires_grad
    torch.testing.assert_close(found.total, expected.total.detach())


def test_only_the_total_has_a_gradient_and_only_once():
    hidden, weight, labels = realistic(64, 211)
    weight.requires_grad_()
    for loss in LOSSES:
        sums = loss(hidden, weight, labels, 0.1, True)
        assert sums.total.requires_grad
        assert not any(sums._asdict()[name].requires_grad for name in sums._fields if name != "total")
    sums.total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiated before"):
        sums.total.backward()


def test_whole_logits_are_held_up_to_the_limit(monkeypatch):
    hidden, weight, labels = realistic(64, 211)
    calls = []
    monkeypatch.setattr(subject, "chunked_linear_cross_entropy", lambda *_: calls.append(1))
    monkeypatch.setattr(subject, "WHOLE_LOGITS_BYTES", 64 * 211 * 4)
    assert torch.equal(linear_cross_entropy(hidden, weight, labels).total, whole(hidden, weight, labels).total)
    assert not calls
    monkeypatch.setattr(subject, "WHOLE_LOGITS_BYTES", 64 * 211 * 4 - 1)
    linear_cross_entropy(hidden, weight, labels)
    assert calls


@pytest.mark.parametrize("tied", [False, True])
def test_a_decoder_trains_on_chunks_as_on_whole_logits(monkeypatch, tied):
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(61, 32, 2, 4, 64, tie_embeddings=tied))
    other, tokens = copy.deepcopy(decoder), torch.randint(0, 61, (2, 17))
    inputs, labels = tokens[:, :-1], tokens[:, 1:]
    decoder(inputs, read=subject.read_loss(labels, 0.01)).total.backward()
    monkeypatch.setattr(subject, "WHOLE_LOGITS_BYTES", 0)
    other(inputs, read=subject.read_loss(labels, 0.01)).total.backward()
    for (name, one), two in zip(decoder.named_parameters(), other.parameters(), strict=True):
        assert (two.grad - one.grad).norm() <= 1e-5 * one.grad.norm(), name


def test_the_loss_is_the_same_in_every_run():
    hidden, weight, labels = realistic(256, 997)
    weight.requires_grad_()
    runs = []
    for _ in range(2):
        total = chunked_linear_cross_entropy(hidden, weight, labels, 0.1).total
        runs.append((total.detach(), *torch.autograd.grad(total, weight)))
    assert all(torch.equal(one, two) for one, two in zip(*runs, strict=True))

import math

import pytest
import torch
from torch.nn import functional as F

from lightning_polycom.activations import ACTIVATIONS, ActivationConfig
from lightning_polycom.model import Decoder, DecoderConfig, InitializationConfig
from lightning_polycom.model.initialization import initialize
from lightning_polycom.model.loss import IGNORE_INDEX, next_token_loss
from lightning_polycom.model.normalization import RMSNorm
from lightning_polycom.model.rotary import rotary_table, rotate


def small(name: str = "polynorm", **options) -> DecoderConfig:
    return DecoderConfig(61, 32, 2, 4, 64, ActivationConfig(name), **options)


def built(config: DecoderConfig, seed: int = 0) -> Decoder:
    decoder = Decoder(config)
    initialize(decoder, seed)
    return decoder


def plain_attention(attention, x, theta=10000.0):
    """Textbook attention: complex rotation of channel pairs (i, i + half), explicit mask, repeated key-value heads."""
    batch, sequence, _ = x.shape
    size, half = attention.head_size, attention.head_size // 2

    def heads(linear, norm_name):
        y = linear(x)
        if attention.qk_norm == "width" and norm_name:
            y = getattr(attention, norm_name)(y)
        y = y.view(batch, sequence, -1, size)
        if attention.qk_norm == "head" and norm_name:
            y = getattr(attention, norm_name)(y)
        return y

    def turned(y):
        angle = torch.arange(sequence)[:, None] * theta ** (-torch.arange(half) / half)
        z = torch.complex(y[..., :half], y[..., half:]) * torch.polar(torch.ones_like(angle), angle)[:, None]
        return torch.cat([z.real, z.imag], -1)

    q, k, v = (
        turned(heads(attention.query, "query_norm")),
        turned(heads(attention.key, "key_norm")),
        heads(attention.value, ""),
    )
    k, v = (t.repeat_interleave(q.shape[2] // t.shape[2], dim=2) for t in (k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(size)
    scores = scores.masked_fill(torch.ones(sequence, sequence).triu(1).bool(), -math.inf)
    mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v)
    return attention.output(mixed.flatten(2))


@pytest.mark.parametrize(
    "options", [{}, {"num_key_value_heads": 2}, {"qk_norm": "head"}, {"qk_norm": "width", "num_key_value_heads": 1}]
)
def test_attention_equals_the_textbook(options):
    attention = built(small(**options)).blocks[0].attention
    x = torch.randn(2, 9, 32)
    table = rotary_table(torch.arange(9), attention.head_size, 10000.0)
    torch.testing.assert_close(attention(x, table), plain_attention(attention, x), rtol=1e-4, atol=1e-6)


def test_rotation_depends_on_distance_only():
    q, k = torch.randn(2, 1, 1, 1, 8)
    scores = []
    for start in (0, 5, 300):
        table = rotary_table(torch.tensor([start, start + 3]), 8, 10000.0)
        turned = rotate(torch.cat([q, k], dim=2), table)
        scores.append((turned[..., 0, :] * turned[..., 1, :]).sum())
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores[0], scores[2], rtol=1e-3, atol=1e-4)


def test_rms_norm_computes_in_fp32():
    norm, x = RMSNorm(512, 1e-5), torch.randn(4, 512)
    by_hand = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x).double(), by_hand, rtol=1e-5, atol=1e-5)
    assert norm(x.bfloat16()).dtype == torch.bfloat16
    assert norm((x * 1e20).bfloat16()).isfinite().all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_later_token_changes_no_earlier_logit(name):
    decoder = built(small(name))
    ids = torch.randint(0, 61, (1, 12))
    changed = ids.clone()
    changed[0, 7] = (ids[0, 7] + 1) % 61
    difference = (decoder(ids) - decoder(changed)).abs().amax(-1)[0]
    assert (difference[:7] == 0).all() and difference[7:].min() > 0


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_parameter_gets_a_gradient(name):
    decoder = built(small(name, qk_norm="head"))
    next_token_loss(decoder(torch.randint(0, 61, (2, 8))), torch.randint(0, 61, (2, 8)))[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoder.parameters())


def test_tied_head_is_the_embedding():
    decoder = built(small(tie_embeddings=True))
    assert decoder.head.weight is decoder.embedding.weight


def test_initial_values_are_the_papers():
    config = DecoderConfig(4000, 256, 6, 4, 512)
    decoder = built(config)
    std = math.sqrt(2 / (5 * 256))
    assert decoder.embedding.weight.std().item() == pytest.approx(std, rel=0.01)
    assert decoder.blocks[3].feed_forward.up.weight.std().item() == pytest.approx(std, rel=0.01)
    for residual in (decoder.blocks[3].feed_forward.down, decoder.blocks[0].attention.output):
        assert residual.weight.std().item() == pytest.approx(std / math.sqrt(12), rel=0.01)
    assert (decoder.norm.weight == 1).all()


def test_truncated_normal_is_cut_at_three_deviations():
    options = InitializationConfig("truncated_normal", 0.02, scale_residual_outputs=False)
    weight = built(small(initialization=options)).blocks[1].feed_forward.down.weight
    assert weight.abs().max() <= 0.06
    assert weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_start_depends_on_seed_and_name_only():
    one, two = built(small("polynorm"), 1).state_dict(), built(small("swiglu"), 1).state_dict()
    other_seed = built(small("polynorm"), 2).state_dict()
    for name in set(one) & set(two):
        if ".feed_forward." not in name:
            assert torch.equal(one[name], two[name]), name
    assert not torch.equal(one["embedding.weight"], other_seed["embedding.weight"])
    assert not torch.equal(one["blocks.0.attention.query.weight"], one["blocks.1.attention.query.weight"])


def test_loss_sums_over_valid_targets():
    logits, labels = torch.randn(2, 5, 11), torch.randint(0, 11, (2, 5))
    labels[0, 3:] = IGNORE_INDEX
    sums = next_token_loss(logits, labels, z_loss_weight=0.1)
    valid = labels != IGNORE_INDEX
    by_hand = -F.log_softmax(logits.double(), -1)[valid].gather(1, labels[valid][:, None]).sum()
    torch.testing.assert_close(sums.negative_log_likelihood.double(), by_hand, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sums.squared_log_normalizer, logits.logsumexp(-1)[valid].square().sum())
    assert sums.num_tokens == 8
    assert next_token_loss(logits.bfloat16(), labels).negative_log_likelihood.dtype == torch.float32


def test_loss_of_a_fully_masked_batch_is_zero_with_zero_gradient():
    logits = torch.randn(1, 3, 5, requires_grad=True)
    sums = next_token_loss(logits, torch.full((1, 3), IGNORE_INDEX))
    sums.total.backward()
    assert sums.negative_log_likelihood == 0 and sums.num_tokens == 0 and (logits.grad == 0).all()

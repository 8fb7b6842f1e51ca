"""Every way of attending inside documents equals a softmax over hand-picked keys."""

import math

import pytest
import torch
from torch import Tensor

from lightning_polycom.model.document_attention import Documents, attend, flex, prepare, segments
from lightning_polycom.model.document_attention.visibility import document_numbers, visible

# Documents of one token, at a row's start and end, one that fills a row, and none at a block's boundary.
LENGTHS = [[1, 4, 1, 5, 1], [12], [5, 7]]
WAYS = {
    "segments": lambda positions: Documents(positions, None),
    "dense": lambda positions: Documents(positions, visible(positions)),
    "flex": lambda positions: Documents(positions, flex.block_mask(positions)),
}


def positions_of(rows: list[list[int]]) -> Tensor:
    return torch.stack([torch.cat([torch.arange(length) for length in row]) for row in rows])


def inputs(heads: int = 4, key_heads: int = 4, dtype: torch.dtype = torch.float64, size: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    shapes = [(3, 12, count, size) for count in (heads, key_heads, key_heads)]
    # Token by token in memory, as a projection writes them.
    return [torch.randn(shape, generator=generator, dtype=dtype).transpose(1, 2).requires_grad_() for shape in shapes]


def by_hand(query: Tensor, key: Tensor, value: Tensor, rows: list[list[int]]) -> Tensor:
    """One query at a time: a softmax over the tokens of its document up to itself."""
    group, output = query.shape[1] // key.shape[1], []
    for row, lengths in enumerate(rows):
        for head in range(query.shape[1]):
            start = 0
            for length in lengths:
                for last in range(start, start + length):
                    seen = slice(start, last + 1)
                    scores = key[row, head // group, seen] @ query[row, head, last] / math.sqrt(query.shape[-1])
                    output.append(scores.softmax(0) @ value[row, head // group, seen])
                start += length
    return torch.stack(output).view(query.shape)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_a_softmax_over_the_document_so_far(way, key_heads):
    query, key, value = (t.detach() for t in inputs(key_heads=key_heads))  # flex has no backward on a CPU
    found = attend(query, key, value, WAYS[way](positions_of(LENGTHS)))
    torch.testing.assert_close(found, by_hand(query, key, value, LENGTHS))


@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize("way", ["segments", "dense"])
def test_the_gradients_are_those_of_the_softmax(way, key_heads):
    query, key, value = inputs(key_heads=key_heads)
    weights = torch.randn(query.shape, dtype=query.dtype)
    found = (attend(query, key, value, WAYS[way](positions_of(LENGTHS))) * weights).sum()
    expected = (by_hand(query, key, value, LENGTHS) * weights).sum()
    for one, other in zip(
        torch.autograd.grad(found, (query, key, value)),
        torch.autograd.grad(expected, (query, key, value)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_the_operator_keeps_torchs_rules():
    query, key, value = inputs()
    torch.library.opcheck(segments._attend, (query, key, value, positions_of(LENGTHS)))
    assert torch.autograd.gradcheck(lambda *x: segments.attend_by_segments(*x, positions_of(LENGTHS)), inputs(size=2))


def test_an_expanded_gradient_and_strided_inputs_are_read_right():
    query, key, value = inputs()
    strided = [
        t.detach().transpose(-1, -2).contiguous().transpose(-1, -2).requires_grad_() for t in (query, key, value)
    ]
    assert strided[0].stride(-1) != 1
    positions = positions_of(LENGTHS)
    expected = torch.autograd.grad(by_hand(query, key, value, LENGTHS).sum(), (query, key, value))
    found = torch.autograd.grad(segments.attend_by_segments(*strided, positions).sum(), strided)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_bf16_stays_bf16_and_near_fp32():
    exact = [t.detach().bfloat16().float() for t in inputs(dtype=torch.float32)]
    positions = positions_of(LENGTHS)
    found = segments.attend_by_segments(*(t.bfloat16() for t in exact), positions)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), segments.attend_by_segments(*exact, positions), rtol=0.02, atol=0.02)


def test_a_row_that_does_not_begin_at_zero_sees_no_other_row():
    positions = torch.tensor([[3, 4, 0, 1], [7, 8, 9, 10]])
    assert document_numbers(positions).tolist() == [[1, 1, 2, 2], [1, 1, 1, 1]]
    assert positions[0, 0] == 3  # the caller's tensor is left as it was
    expected = torch.ones(4, 4).tril().bool()
    assert torch.equal(visible(positions)[1, 0], expected)
    slices = list(segments._segments(positions))
    assert [(s[0].start, s[2].start, s[2].stop) for s in slices] == [(0, 0, 2), (0, 2, 4), (1, 0, 4)]


def test_a_cpu_takes_the_segments_and_the_mask_where_torch_lacks_their_kernels(monkeypatch):
    positions = positions_of(LENGTHS)
    assert prepare(positions, 64).mask is None
    monkeypatch.setattr(segments, "AVAILABLE", False)
    assert prepare(positions, 64).mask.shape == (3, 1, 12, 12)


def test_flex_is_chosen_for_gpus_only():
    assert not flex.available(torch.device("cpu"), 64)
    assert not flex.available(torch.device("cuda"), 8)


def test_flexs_blocks_leave_out_what_no_document_spans():
    mask = flex.block_mask(positions_of([[256, 256], [512]]))
    assert mask.shape == (2, 1, 512, 512)
    blocks = mask.to_dense()
    assert blocks[0, 0].tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert blocks[1, 0].tolist() == torch.ones(4, 4).tril().tolist()

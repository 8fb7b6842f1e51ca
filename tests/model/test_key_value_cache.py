"""Whatever was read through a cache gives the logits that reading everything at once gives."""

import pytest
import torch

from lightning_polycom.activations import ACTIVATIONS, ActivationConfig
from lightning_polycom.model import Decoder, DecoderConfig, InitializationConfig
from lightning_polycom.model.branches import Branches
from lightning_polycom.model.initialization import initialize
from lightning_polycom.model.key_value_cache import KeyValueCache

SHAPES = [{}, {"num_key_value_heads": 2}, {"qk_norm": "head"}, {"qk_norm": "width", "num_key_value_heads": 1}]


def built(name: str = "swiglu", **options) -> Decoder:
    spread = InitializationConfig(standard_deviation=0.3)
    decoder = Decoder(DecoderConfig(61, 32, 2, 4, 64, ActivationConfig(name), initialization=spread, **options))
    initialize(decoder, 0)
    return decoder.eval()


def ids(*shape: int) -> torch.Tensor:
    return torch.randint(0, 61, shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def through_cache(decoder: Decoder, tokens: torch.Tensor, pieces: list[int]) -> torch.Tensor:
    cache = KeyValueCache(len(tokens), tokens.shape[1])
    return torch.cat([decoder(piece, cache=cache) for piece in tokens.split(pieces, dim=1)], dim=1)


@pytest.mark.parametrize("options", SHAPES)
@pytest.mark.parametrize("pieces", [[12], [1] * 12, [5, 1, 6]])
def test_piece_by_piece(options, pieces):
    decoder, tokens = built(**options), ids(3, 12)
    torch.testing.assert_close(through_cache(decoder, tokens, pieces), decoder(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation(name):
    decoder, tokens = built(name), ids(2, 9)
    torch.testing.assert_close(through_cache(decoder, tokens, [4, 1, 4]), decoder(tokens), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_ragged_rows_continue_token_by_token_and_rows_go_and_come():
    decoder, tokens, lengths = built(num_key_value_heads=2), ids(3, 12), [7, 3, 5]
    cache = KeyValueCache(3, 12)
    padded = tokens[:, :7].clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = 60
    first = decoder(padded, cache=cache)
    cache.truncate(lengths)
    rows = [0, 1, 2]
    for row in rows:
        expected = decoder(tokens[row : row + 1, : lengths[row]])[0]
        torch.testing.assert_close(first[row, : lengths[row]], expected, rtol=1e-4, atol=1e-5)
    for step in range(5):
        if step == 2:
            rows = [2, 1]
            cache.keep(rows)
        if step == 3:  # the row that was dropped comes back
            rows = [2, 1, 0]
            fresh = KeyValueCache(1, 12)
            decoder(tokens[:1, : lengths[0] + step], cache=fresh)
            cache.join(fresh)
        column = torch.stack([tokens[row, lengths[row] + step] for row in rows])[:, None]
        logits = decoder(column, cache=cache)[:, 0]
        for got, row in zip(logits, rows, strict=True):
            expected = decoder(tokens[row : row + 1, : lengths[row] + step + 1])[0, -1]
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert cache.lengths == [10, 8, 12]


def test_what_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="13 tokens exceed the cache's capacity of 12"), torch.no_grad():
        built()(ids(1, 13), cache=KeyValueCache(1, 12))


@torch.no_grad()
@pytest.mark.parametrize("options", SHAPES)
@pytest.mark.parametrize("stored", [0, 6])
def test_branches_equal_their_sequences_read_alone(options, stored):
    # A tree of the sequences: common 0 1 | 2 3, common 0 1 | 4 | 5, common 0 1 | 4 | 6 7; a second row of one branch.
    decoder, tokens, common = built(**options), ids(2, 8), ids(1, stored)
    positions = torch.tensor([[0, 1, 2, 3, 2, 3, 3, 4], [0, 1, 2, 3, 4, 5, 0, 0]]) + stored
    ends = torch.tensor([[8, 8, 4, 4, 8, 6, 8, 8], [6, 6, 6, 6, 6, 6, 7, 8]])
    prefix = None
    if stored:
        prefix = KeyValueCache(1, stored)
        decoder(common, cache=prefix)
    before = [layer.clone() for layer in prefix.stored(1)] if stored else []
    logits = decoder(tokens, cache=Branches(positions, ends, prefix))
    for row, columns in [(0, [0, 1, 2, 3]), (0, [0, 1, 4, 5]), (0, [0, 1, 4, 6, 7]), (1, [0, 1, 2, 3, 4, 5])]:
        alone = decoder(torch.cat([common[0], tokens[row, columns]])[None])[0, stored:]
        torch.testing.assert_close(logits[row, columns], alone, rtol=1e-4, atol=1e-5)
    if stored:
        assert prefix.lengths == [stored]
        assert all(torch.equal(*pair) for pair in zip(before, prefix.stored(1), strict=True))


def test_logits_can_be_formed_at_a_few_places_only():
    decoder, tokens = built(), ids(2, 9)
    some = decoder(tokens, read=lambda hidden, head: head(hidden[[0, 1], [3, 8]]))
    torch.testing.assert_close(some, decoder(tokens)[[0, 1], [3, 8]])

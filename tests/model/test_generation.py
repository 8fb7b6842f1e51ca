import torch

from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.generation import _sample, generate
from lightning_polycom.model.initialization import initialize


def decoder() -> Decoder:
    net = Decoder(DecoderConfig(31, 16, 1, 2, 32, max_sequence_length=8))
    initialize(net, 0)
    return net.eval()


def test_greedy_takes_the_most_likely_token_each_time():
    net, ids = decoder(), [3, 1, 4]
    for token in generate(net, [3, 1, 4], 12, temperature=0.0, top_p=1.0, seed=0):
        assert token == net(torch.tensor([ids[-8:]]))[0, -1].argmax()
        ids.append(token)
    assert len(ids) == 15


def test_a_seed_repeats_and_another_differs():
    net = decoder()
    draws = [list(generate(net, [5], 20, 1.0, 1.0, seed)) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_nucleus_excludes_the_tail():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    drawn = {_sample(logits, 0.7, torch.Generator().manual_seed(seed)) for seed in range(200)}
    assert drawn == {0, 1}
    assert {_sample(logits, 1.0, torch.Generator().manual_seed(seed)) for seed in range(300)} == {0, 1, 2, 3}

import torch

from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.generation import _sample, generate
from lightning_polycom.model.initialization import initialize


def decoder() -> Decoder:
    net = Decoder(DecoderConfig(31, 16, 1, 2, 32, max_sequence_length=8))
    initialize(net, 0)
    return net.eval()


def continued(net: Decoder, prompts: list[list[int]], *options, **named) -> list[list[int]]:
    result = [[] for _ in prompts]
    for number, token in generate(net, prompts, *options, **named):
        result[number].append(token)
    return result


def greedy_by_hand(net: Decoder, prompt: list[int], count: int) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(net(torch.tensor([ids[-8:]]))[0, -1].argmax()))
    return ids[len(prompt) :]


def test_greedy_takes_the_most_likely_token_each_time_also_beyond_the_window():
    net, prompts = decoder(), [[3, 1, 4], [1], [5, 9, 2, 6, 5, 3, 5, 8, 9, 7]]
    expected = [greedy_by_hand(net, prompt, 12) for prompt in prompts]
    assert continued(net, prompts, 12, temperature=0.0, top_p=1.0, seed=0) == expected


def test_a_prompt_ends_with_the_end_of_text_and_the_others_go_on():
    net, prompts = decoder(), [[3, 1, 4], [1], [2, 6]]
    free = [greedy_by_hand(net, prompt, 6) for prompt in prompts]
    eos = free[0][2]
    expected = [ids[: ids.index(eos) + 1] if eos in ids else ids for ids in free]
    assert len(expected[0]) < 6
    assert continued(net, prompts, 6, 0.0, 1.0, 0, eos=eos) == expected


def test_each_token_is_read_once():
    net, read = decoder(), []
    net.embedding.register_forward_hook(lambda module, inputs, output: read.append(inputs[0].numel()))
    continued(net, [[3, 1, 4]], 5, 0.0, 1.0, 0)
    assert read == [3, 1, 1, 1, 1]


def test_a_seed_repeats_and_another_differs():
    net = decoder()
    draws = [continued(net, [[5]], 20, 1.0, 1.0, seed) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_what_is_drawn_for_a_prompt_does_not_depend_on_those_behind_it():
    net = decoder()
    assert continued(net, [[5], [7, 2]], 5, 1.0, 1.0, 1)[0] == continued(net, [[5]], 5, 1.0, 1.0, 1)[0]
    same = continued(net, [[5], [5]], 5, 1.0, 1.0, 1)
    assert same[0] != same[1]


def test_nucleus_excludes_the_tail():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    drawn = {_sample(logits, 0.7, torch.Generator().manual_seed(seed)) for seed in range(200)}
    assert drawn == {0, 1}
    assert {_sample(logits, 1.0, torch.Generator().manual_seed(seed)) for seed in range(300)} == {0, 1, 2, 3}

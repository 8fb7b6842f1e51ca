import math
import random

import numpy
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.utils import get_rolling_token_windows
from tiny_language_model import TinyDecoder, plain_log_likelihood

from lightning_polycom.errors import InputError
from lightning_polycom.evaluation import DecoderLM, scoring

PAIRS = [
    ("The sum of two", " odd numbers is even"),
    ("The sum of two", " odd"),
    ("a", "b"),
    ("", "begins with nothing"),
    ("context with a trailing space ", "word"),
    ("x" * 200, " behind a context far longer than the window"),
    ("y" * 47, "z"),
    ("fits exactly: " + "q" * 30, "12345"),
]


def requests(kind: str, arguments: list[tuple]) -> list[Instance]:
    return [Instance(kind, {}, args, i, metadata=("made_up", i, 1)) for i, args in enumerate(arguments)]


def by_hand(decoder, tokenizer, context: str, continuation: str) -> tuple[float, bool]:
    # A byte tokenizer splits anywhere, so moving a trailing space into the continuation is visible here.
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    ids = tokenizer.encode(stripped) or [tokenizer.eos_token_id]
    return plain_log_likelihood(decoder, ids, tokenizer.encode(continuation), decoder.config.max_sequence_length)


@pytest.mark.parametrize("batch_tokens", [1, 100, 8192])
def test_log_likelihoods_equal_one_request_at_a_time(decoder, tokenizer, batch_tokens):
    lm = DecoderLM(decoder, tokenizer, batch_tokens=batch_tokens)
    answers = lm.loglikelihood(requests("loglikelihood", PAIRS))
    assert decoder.largest <= max(batch_tokens, 48)
    expected = [by_hand(decoder, tokenizer, *pair) for pair in PAIRS]
    assert [greedy for _, greedy in answers] == [greedy for _, greedy in expected]
    for (value, _), (exact, _) in zip(answers, expected, strict=True):
        assert value == pytest.approx(exact, abs=1e-4)


def test_what_requests_share_is_read_once_in_one_pass(decoder, tokenizer):
    context, answers = "Which letter? Answer:", [" A", " B", " C and D", " C or E"]
    lm = DecoderLM(decoder, tokenizer)
    cases = [(context, answer) for answer in answers]
    lm.loglikelihood(requests("loglikelihood", cases))
    # Of " A" and " B" only the space is read, and " C " of the last two once.
    assert (decoder.calls, decoder.read) == (1, len(context) + 1 + len("C ") + len("and ") + len("or "))


def test_examples_before_many_questions_are_read_once(decoder, tokenizer):
    examples = "Examples that stand before all."
    examples += "." * (36 - len(examples))
    cases = [(f"{examples}{i:02}?", f" {answer}") for i in range(40) for answer in ("yes", "no")]
    answers = DecoderLM(decoder, tokenizer, batch_tokens=100).loglikelihood(requests("loglikelihood", cases))
    assert decoder.read < 36 + 40 * 12
    for (value, greedy), case in zip(answers, cases, strict=True):
        exact, flag = by_hand(decoder, tokenizer, *case)
        assert value == pytest.approx(exact, abs=1e-4) and greedy == flag


def test_logits_are_formed_for_a_few_positions_at_a_time(decoder, tokenizer, monkeypatch):
    cases = requests("loglikelihood_rolling", [("a longer text, " * 12,)])
    expected = DecoderLM(decoder, tokenizer).loglikelihood_rolling(cases)
    formed = []
    decoder.head.register_forward_hook(lambda module, inputs, output: formed.append(output.shape))
    monkeypatch.setattr(scoring, "LOGITS", 257 * 10)
    assert DecoderLM(decoder, tokenizer).loglikelihood_rolling(cases) == pytest.approx(expected, abs=1e-4)
    assert sum(rows for rows, _ in formed) == 180 and max(rows for rows, _ in formed) == 10


def test_greedy_flag_is_true_for_what_greedy_decoding_gives_and_only_there(decoder, tokenizer):
    decoder.eval()
    ids = tokenizer.encode("start")
    for _ in range(4):
        ids.append(int(decoder(torch.tensor([ids]))[0, -1].argmax()))
    other = [*ids[:-1], (ids[-1] + 1) % 256]
    lm = DecoderLM(decoder, tokenizer)
    answers = lm._loglikelihood_tokens([(None, ids[:5], ids[5:]), (None, other[:5], other[5:])])
    assert [greedy for _, greedy in answers] == [True, False]


def test_rolling_log_likelihood_predicts_every_token_once(decoder, tokenizer):
    texts = ["", "a", "short text", "b" * 48, "c" * 49, "a longer text, " * 12]
    totals = DecoderLM(decoder, tokenizer, batch_tokens=150).loglikelihood_rolling(
        requests("loglikelihood_rolling", [(text,) for text in texts])
    )
    for text, total in zip(texts, totals, strict=True):
        exact, predicted = 0.0, 0
        for inputs, targets in get_rolling_token_windows(tokenizer.encode(text), 256, 48, 1):
            exact += plain_log_likelihood(decoder, [*inputs, targets[-1]][: -len(targets)], targets, 48)[0]
            predicted += len(targets)
        assert predicted == len(text)
        assert total == pytest.approx(exact, abs=1e-3)
    assert totals[0] == 0.0
    assert totals[1] == pytest.approx(plain_log_likelihood(decoder, [256], [97], 48)[0], abs=1e-4)


def greedy_by_hand(decoder, tokenizer, context: str, until: list[str], tokens: int) -> str:
    decoder.eval()
    ids, new = tokenizer.encode(context)[-(48 - tokens) :] or [256], []
    while len(new) < tokens and not any(stop in tokenizer.decode(new) for stop in until):
        token = int(decoder(torch.tensor([ids + new]))[0, -1].argmax())
        if token == 256:
            break
        new.append(token)
    text = tokenizer.decode(new)
    return min((text.split(stop)[0] for stop in until), key=len, default=text)


def test_generation_is_greedy_and_stops(decoder, tokenizer):
    free = greedy_by_hand(decoder, tokenizer, "once", [], 12)
    assert len(free) > 3
    cases = [
        ("once", {"until": [], "max_gen_toks": 12}),
        ("once", {"until": [free[3]], "max_gen_toks": 12}),
        ("once", {"until": free[1:3], "max_gen_toks": 12}),
        ("long " * 30, {"until": ["\n"], "max_gen_toks": 20}),
    ]
    texts = DecoderLM(decoder, tokenizer, batch_tokens=64).generate_until(requests("generate_until", cases))
    for (context, arguments), text in zip(cases, texts, strict=True):
        until = [arguments["until"]] if isinstance(arguments["until"], str) else arguments["until"]
        assert text == greedy_by_hand(decoder, tokenizer, context, until, arguments["max_gen_toks"])
    assert texts[1] == free[: free.index(free[3])]


@pytest.mark.parametrize("batch_tokens", [1, 90, 8192])
def test_prompts_take_the_place_of_those_that_are_done(decoder, tokenizer, batch_tokens):
    cases = [(text[: 3 + i], {"until": ["e"], "max_gen_toks": 2 + 3 * i}) for i, text in enumerate(["some words"] * 8)]
    texts = DecoderLM(decoder, tokenizer, batch_tokens=batch_tokens).generate_until(requests("generate_until", cases))
    for (context, arguments), text in zip(cases, texts, strict=True):
        assert text == greedy_by_hand(decoder, tokenizer, context, ["e"], arguments["max_gen_toks"])
    assert len({len(text) for text in texts}) > 2


def test_generation_ends_at_the_end_of_text_token(tokenizer):
    decoder = TinyDecoder(257, 48)
    with torch.no_grad():
        decoder.embedding.weight.fill_(1.0)
        decoder.head.weight.zero_()
        decoder.head.weight[256] = 1.0
        for block in decoder.blocks:
            block.attention.output.weight.zero_()
            block.feed_forward.down.weight.zero_()
    lm = DecoderLM(decoder, tokenizer)
    assert lm.generate_until(requests("generate_until", [("x", {"until": [], "max_gen_toks": 9})])) == [""]
    assert decoder.calls == 1


def test_the_training_run_is_left_as_it_was(decoder, tokenizer):
    decoder.dropout.eval()
    state = (random.getstate(), numpy.random.get_state()[1].copy(), torch.random.get_rng_state())
    lm = DecoderLM(decoder, tokenizer, precision="bf16")
    lm.loglikelihood(requests("loglikelihood", PAIRS))
    lm.loglikelihood_rolling(requests("loglikelihood_rolling", [("some text",)]))
    lm.generate_until(requests("generate_until", [("x", {"max_gen_toks": 2})]))
    assert decoder.training and decoder.blocks[0].training and not decoder.dropout.training
    assert random.getstate() == state[0]
    assert (numpy.random.get_state()[1] == state[1]).all()
    assert torch.equal(torch.random.get_rng_state(), state[2])
    loss = decoder(torch.tensor([[1, 2, 3]])).logsumexp(-1).mean()
    loss.backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_training_mode_comes_back_after_an_error(decoder, tokenizer):
    with pytest.raises(IndexError):
        DecoderLM(decoder, tokenizer)._loglikelihood_tokens([(None, [1], [2, 9999, 3])])
    assert decoder.training


def test_bf16_is_near_fp32_and_not_equal(decoder, tokenizer):
    pair = requests("loglikelihood", PAIRS[:1])
    exact = DecoderLM(decoder, tokenizer).loglikelihood(pair)[0][0]
    rounded = DecoderLM(decoder, tokenizer, precision="bf16").loglikelihood(pair)[0][0]
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.02)


def test_a_model_without_knowledge_scores_the_uniform_distribution(tokenizer):
    decoder = TinyDecoder(257, 48)
    torch.nn.init.zeros_(decoder.head.weight)
    value, _ = DecoderLM(decoder, tokenizer).loglikelihood(requests("loglikelihood", [("ab", "cde")]))[0]
    assert value == pytest.approx(-3 * math.log(257), abs=1e-4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda lm: lm.loglikelihood(requests("loglikelihood", [("a", "")])), "made_up: a continuation is empty"),
        (lambda lm: lm.loglikelihood(requests("loglikelihood", [(" ", "a")])), "made_up: a context has no tokens"),
        (
            lambda lm: lm.loglikelihood(requests("loglikelihood", [("a", "b" * 49)])),
            "made_up: an answer of 49 tokens.*window of 48",
        ),
        (lambda lm: lm.generate_until(requests("generate_until", [("a", {})])), "max_gen_toks 256 .*window of 48"),
        (lambda lm: lm.generate_until(requests("generate_until", [("", {"max_gen_toks": 3})])), "a prompt is empty"),
        (
            lambda lm: lm.generate_until(requests("generate_until", [("a", {"max_gen_toks": 3, "num_beams": 2})])),
            "generation_kwargs num_beams are not supported",
        ),
        (
            lambda lm: lm.generate_until(requests("generate_until", [("a", {"do_sample": True, "temperature": 1.0})])),
            "sampling",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(decoder, tokenizer, call, words):
    with pytest.raises(InputError, match=words) as error:
        call(DecoderLM(decoder, tokenizer))
    assert "\n" not in str(error.value)


def test_wrong_settings_are_refused(decoder, tokenizer):
    with pytest.raises(InputError, match=r"fp16.*fp32, bf16"):
        DecoderLM(decoder, tokenizer, precision="fp16")
    with pytest.raises(InputError, match="batch_tokens"):
        DecoderLM(decoder, tokenizer, batch_tokens=0)

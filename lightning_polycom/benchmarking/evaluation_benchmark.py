"""How fast questions are scored through the lm-eval adapter, beside a forward pass that does nothing else."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_polycom.benchmarking.stopwatch import Stopwatch
from lightning_polycom.evaluation.adapter import CPU_TOKENS, DecoderLM
from lightning_polycom.evaluation.live_decoder import borrowed, evaluation_precision, forward
from lightning_polycom.model import Decoder, DecoderConfig
from lightning_polycom.model.initialization import initialize

QUESTIONS = {"cpu": 16, "cuda": 256}
ANSWERS, CONTEXT, ANSWER = 4, 128, 16  # of a question; tokens of its context and of an answer, if the window has them
BATCH_TOKENS = 8192  # the adapter's default


class MeasuredEvaluation(NamedTuple):
    """Speeds in tokens per second.

    Attributes:
        asked: Tokens of contexts and answers, each answer with its context.
        computed: Of them, those that the decoder was given: answers of one question share its context.
        forward: Of the forward pass that does nothing else, the ceiling of `computed`.
    """

    asked: float
    computed: float
    forward: float

    def record(self) -> dict[str, float]:
        """For JSON."""
        return {
            "asked_tokens_per_second": self.asked,
            "computed_tokens_per_second": self.computed,
            "forward_tokens_per_second": self.forward,
            "share": self.computed / self.forward,
        }


def measure_evaluation(
    config: DecoderConfig, precision: str, stopwatch: Stopwatch, questions: int | None = None
) -> MeasuredEvaluation:
    """Scores multiple-choice questions of random tokens with a new decoder; encoding text is not part of it.

    Args:
        config: The decoder's shape.
        precision: The Trainer's, which says the adapter's.
        stopwatch: Its device is where it happens.
        questions: How many; default by device.
    """
    device, precision = stopwatch.device, evaluation_precision(precision)
    decoder = Decoder(config).to(device)
    initialize(decoder, 0)
    requests = random_requests(config, questions or QUESTIONS[device])
    asked = sum(len(context) + len(answer) for _, context, answer in requests)
    lm = DecoderLM(decoder, SimpleNamespace(eos_token_id=0), BATCH_TOKENS, precision)
    computed = _computed_tokens(decoder, lm, requests)
    seconds = stopwatch.wall(lambda: lm._loglikelihood_tokens(requests))
    length = len(requests[0][1]) + len(requests[0][2])
    alone = _forward_speed(decoder, precision, stopwatch, length)
    return MeasuredEvaluation(asked / seconds, computed / seconds, alone)


def random_requests(config: DecoderConfig, questions: int) -> list[tuple[Any, list[int], list[int]]]:
    """Text (of no use here), context and answer of each request, as lm-eval's own models get them."""
    generator = torch.Generator().manual_seed(0)
    answer = max(1, min(ANSWER, config.max_sequence_length // 4))
    context = max(1, min(CONTEXT, config.max_sequence_length - answer))

    def ids(count: int) -> list[int]:
        return torch.randint(config.vocab_size, (count,), generator=generator).tolist()

    contexts = [ids(context) for _ in range(questions)]
    return [(None, beginning, ids(answer)) for beginning in contexts for _ in range(ANSWERS)]


def _computed_tokens(decoder: nn.Module, lm: DecoderLM, requests: list) -> int:
    """Tokens that the decoder is given to answer the requests, pads included."""
    counts: list[int] = []
    hook = decoder.register_forward_pre_hook(lambda _, inputs: counts.append(inputs[0].numel()))
    try:
        lm._loglikelihood_tokens(requests)
    finally:
        hook.remove()
    return sum(counts)


def _forward_speed(decoder: nn.Module, precision: str, stopwatch: Stopwatch, length: int) -> float:
    """Tokens per second of blocks alone, in rows of `length`, as many at a time as the adapter would give."""
    tokens = CPU_TOKENS if stopwatch.device == "cpu" else BATCH_TOKENS
    ids = torch.zeros(max(1, tokens // length), length, dtype=torch.int64, device=stopwatch.device)
    with borrowed(decoder):
        seconds = stopwatch.wall(lambda: forward(decoder, ids, precision, read=_nothing))
    return ids.numel() / seconds


def _nothing(hidden: Tensor, head: nn.Module) -> None:
    """No logits: which places need them is the adapter's work."""

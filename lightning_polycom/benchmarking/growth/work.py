"""The pieces of work that are timed at each size."""

from collections.abc import Callable
from types import SimpleNamespace

import torch

from lightning_polycom.benchmarking.evaluation_benchmark import BATCH_TOKENS, random_requests
from lightning_polycom.benchmarking.training_step.bare_loop import training_step
from lightning_polycom.benchmarking.training_step.contenders import SEED, our_decoder
from lightning_polycom.benchmarking.training_step.shapes import TrainingShape
from lightning_polycom.evaluation.adapter import DecoderLM
from lightning_polycom.evaluation.live_decoder import evaluation_precision
from lightning_polycom.model import Decoder
from lightning_polycom.model.initialization import initialize


def step_of(shape: TrainingShape, activation: str, precision: str, device: str) -> Callable[[], object]:
    """One optimizer step of the bare loop on a batch of random tokens that lies ready.

    Eager: blocks of several sizes compiled in one process would be compiled for varying sizes, unlike a run's.
    """
    torch.manual_seed(SEED)
    model, loss = our_decoder(shape.decoder_config(activation), compiled=False)
    step = training_step(precision, model.to(device), loss)
    tokens = torch.randint(shape.vocab_size, (shape.batch, shape.sequence + 1), device=device)
    input_ids, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    return lambda: step(input_ids, labels)


def answers_of(
    shape: TrainingShape, activation: str, precision: str, device: str, questions: int
) -> Callable[[], object]:
    """The scoring of multiple-choice questions of random tokens through the lm-eval adapter."""
    config = shape.decoder_config(activation)
    decoder = Decoder(config).to(device)
    initialize(decoder, SEED)
    lm = DecoderLM(decoder, SimpleNamespace(eos_token_id=0), BATCH_TOKENS, evaluation_precision(precision))
    requests = random_requests(config, questions)
    return lambda: lm._loglikelihood_tokens(requests)

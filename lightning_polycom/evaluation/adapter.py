"""lm-eval's view of a decoder: log-likelihoods and greedy generation on the live weights."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from lightning_polycom.errors import InputError
from lightning_polycom.evaluation.encoding import Encoder, Pair
from lightning_polycom.evaluation.generation import Continuation, Prompt, generate_greedily
from lightning_polycom.evaluation.inputs import distinct_inputs
from lightning_polycom.evaluation.live_decoder import AUTOCAST, borrowed, forward
from lightning_polycom.evaluation.passes import Track, plan_batches, run_batches
from lightning_polycom.evaluation.ranks import gather, rank_and_world_size, require_equal
from lightning_polycom.evaluation.refusal import RequestsRefused, TasksRefused
from lightning_polycom.evaluation.scoring import Score, Scorer
from lightning_polycom.evaluation.sharing import Sharing
from lightning_polycom.model import Decoder
from lightning_polycom.model.key_value_cache import KeyValueCache

CPU_TOKENS = 1024
"""More in one forward pass is slower on a CPU, because what lies between two layers leaves its caches."""

GREEDY_ARGUMENTS = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k"}
"""What a task may say about generation: it has no effect on a greedy one, or is obeyed."""


class DecoderLM(TemplateLM):
    """A decoder and a tokenizer as an lm-eval model, with the semantics of lm-eval's own `hf` backend.

    `tokenizer` has `encode_batch`, `decode` and `eos_token_id`. With a `bos_token_id` every text begins with it, and an
    empty context is that token; without one nothing is added, and an empty context is the end-of-text token. Requests
    are answered in as few tokens as possible: inputs share what they have in common. A forward pass sees at most
    `batch_tokens` tokens, pads and stored ones included, or one sequence. With a process group every method is
    collective: the ranks share the batches, each makes the same number of forward passes, and every rank returns all
    results. lm-eval itself is told of one rank only. `track` shows the progress over forward passes.

    Raises:
        InputError: `precision` is not "fp32" or "bf16", or `batch_tokens` is not positive.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Any,
        batch_tokens: int = 8192,
        precision: str = "fp32",
        track: Track = iter,
        bos_token_id: int | None = None,
    ):
        super().__init__()
        if precision not in AUTOCAST:
            raise InputError(f"evaluation precision: {precision!r} is unknown, use one of {', '.join(AUTOCAST)}")
        if batch_tokens < 1:
            raise InputError(f"evaluation batch_tokens: {batch_tokens} is not positive, 8192 suits most machines")
        self.decoder = decoder
        self.tokenizer = tokenizer
        self.batch_tokens = batch_tokens
        self.precision = precision
        self.track = track
        self.bos_token_id = bos_token_id
        self._encoder = Encoder(tokenizer, bos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """Id that stands for an empty context."""
        return self._encoder.prefix_token_id

    @property
    def eot_token_id(self) -> int:
        """Id of the end-of-text token."""
        return self.tokenizer.eos_token_id

    @property
    def max_length(self) -> int:
        """The decoder's window in tokens."""
        return self.decoder.config.max_sequence_length

    @property
    def max_gen_toks(self) -> int:
        """Tokens to generate for a task that does not say."""
        return 256

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids of `string`, behind the beginning-of-sequence token if there is one and it is not switched off."""
        return self._encoder.encode([string], with_bos=add_special_tokens is not False)[0].tolist()

    def tok_decode(self, tokens: list[int]) -> str:
        """Text of token ids."""
        return self.tokenizer.decode(tokens)

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes into its results about the model."""
        return {
            "model_num_parameters": sum(parameter.numel() for parameter in self.decoder.parameters()),
            "precision": self.precision,
            "max_length": self.max_length,
            "eot_token_id": self.eot_token_id,
            "add_bos_token": self.bos_token_id is not None,
        }

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """(log-likelihood in nats, whether greedy decoding gives it) of each request's continuation.

        Raises:
            TasksRefused: a continuation is empty or does not fit the decoder's window, or a context has no tokens.
        """
        pairs = self._encoder.encode_pairs([request.args for request in requests])
        try:
            return self._scores(pairs)
        except RequestsRefused as error:
            raise TasksRefused({requests[i].task_name: reason for i, reason in error.reasons.items()}) from None

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Log-likelihood in nats of each whole text, in windows that predict every token once."""
        pairs: list[Pair] = []
        owners: list[int] = []
        for owner, ids in enumerate(self._encoder.encode([request.args[0] for request in requests])):
            for window in get_rolling_token_windows(ids.tolist(), self.prefix_token_id, self.max_length, context_len=1):
                pairs.append(_pair(*make_disjoint_window(window)))
                owners.append(owner)
        totals = [0.0] * len(requests)
        for owner, (log_likelihood, _) in zip(owners, self._scores(pairs), strict=True):
            totals[owner] += log_likelihood
        return totals

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Greedy continuations, each cut before its first stop string or the end-of-text token.

        Raises:
            TasksRefused: a task asks for anything but greedy decoding, or for more tokens than the window has room for,
                or a prompt is empty.
        """
        contexts = self._encoder.encode([request.args[0] for request in requests])
        prompts = [self._prompt(request, ids.tolist()) for request, ids in zip(requests, contexts, strict=True)]
        require_equal((repr(prompt).encode() for prompt in prompts), "the prompts to continue")
        every = [Continuation(number, p, self.tok_decode, self.eot_token_id) for number, p in enumerate(prompts)]
        rank, world_size = rank_and_world_size()
        mine = sorted(every, key=lambda continuation: continuation.prompt.room)[rank::world_size]
        device = next(self.decoder.parameters()).device
        with borrowed(self.decoder):
            generate_greedily(
                mine,
                functools.partial(forward, self.decoder, precision=self.precision),
                functools.partial(KeyValueCache, device=device),
                self.batch_tokens,
                self.track,
            )
        texts = {number: text for part in gather({c.number: c.text for c in mine}) for number, text in part.items()}
        return [texts[number] for number in range(len(prompts))]

    def _loglikelihood_tokens(self, requests: list[Any], **kwargs: Any) -> list[Score]:
        return self._scores([_pair(context, continuation) for _, context, continuation in requests])

    def _scores(self, pairs: list[Pair]) -> list[Score]:
        misfits = {i: reason for i, pair in enumerate(pairs) if (reason := self._misfit(*pair))}
        if misfits:
            raise RequestsRefused(misfits)
        require_equal((part.tobytes() for pair in pairs for part in pair), "the requests")
        inputs = distinct_inputs(pairs, self.max_length)
        # The linear layers of a block take 24 hidden_size^2 operations a token, attention 4 hidden_size a key; it runs
        # at two thirds of their speed.
        sharing = Sharing(inputs, 4.0 * self.decoder.config.hidden_size, self.batch_tokens)
        on_cpu = next(self.decoder.parameters()).device.type == "cpu"
        new_tokens = min(self.batch_tokens, CPU_TOKENS) if on_cpu else self.batch_tokens
        batches = plan_batches(sharing.families(), self.batch_tokens, new_tokens)
        with borrowed(self.decoder):
            scorer = Scorer(self.decoder, self.precision)
            return run_batches(batches, scorer.run, scorer.idle, self.track)

    def _misfit(self, context: np.ndarray, continuation: np.ndarray) -> str | None:
        if not len(continuation):
            return "a continuation is empty; remove it"
        if not len(context):
            return "a context has no tokens; give it some text, or leave it empty for the end-of-text token"
        if len(continuation) > self.max_length:
            return (
                f"an answer of {len(continuation)} tokens exceeds the decoder's window of {self.max_length}; "
                "drop the task or raise max_sequence_length"
            )
        return None

    def _prompt(self, request: Any, token_ids: list[int]) -> Prompt:
        arguments = normalize_gen_kwargs(request.args[1], self.max_gen_toks)
        if arguments["do_sample"]:
            raise TasksRefused({request.task_name: "asks for sampling; only greedy decoding is supported"})
        if others := sorted(arguments.keys() - GREEDY_ARGUMENTS):
            raise TasksRefused({request.task_name: f"generation_kwargs {', '.join(others)} are not supported"})
        room = self.max_length - arguments["max_gen_toks"]
        if room < 1:
            reason = (
                f"max_gen_toks {arguments['max_gen_toks']} leaves no room for a prompt in the decoder's window of "
                f"{self.max_length}; set generation_kwargs.max_gen_toks lower"
            )
            raise TasksRefused({request.task_name: reason})
        until = handle_stop_sequences(arguments["until"], eos=self.tok_decode([self.eot_token_id]))
        if not token_ids:
            raise TasksRefused({request.task_name: "a prompt is empty; give it some text"})
        return Prompt(token_ids[-room:], arguments["max_gen_toks"], [stop for stop in until if stop])


def _pair(context: Sequence[int], continuation: Sequence[int]) -> Pair:
    return Pair(np.array(context, dtype=np.int32), np.array(continuation, dtype=np.int32))

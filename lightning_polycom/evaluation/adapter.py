"""lm-eval's view of a decoder: log-likelihoods and greedy generation on the live weights."""

from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch import Tensor, nn

from lightning_polycom.errors import InputError
from lightning_polycom.evaluation.batch_plan import Track, pad_right, plan_batches, run_batches
from lightning_polycom.evaluation.generation import Prompt, generate_greedily
from lightning_polycom.evaluation.live_decoder import AUTOCAST, borrowed, forward
from lightning_polycom.evaluation.ranks import require_equal
from lightning_polycom.evaluation.refusal import RequestsRefused, TasksRefused

TokenPair = tuple[list[int], list[int]]  # context, continuation


class DecoderLM(TemplateLM):
    """A decoder and a tokenizer as an lm-eval model, with the semantics of lm-eval's own `hf` backend.

    No beginning-of-sequence token is added; an empty context is the end-of-text token. `decoder(input_ids)` maps
    int64 (batch, sequence) to logits (batch, sequence, vocab_size) and has `config.max_sequence_length`; `tokenizer`
    has `encode`, `decode` and `eos_token_id`. A forward pass sees at most `batch_tokens` tokens, pads included, or
    one sequence. With a process group every method is collective: the ranks share the batches, each makes the same
    number of forward passes, and every rank returns all results. lm-eval itself is told of one rank only. `track` shows
    the progress over batches.

    Raises:
        InputError: `precision` is not "fp32" or "bf16", or `batch_tokens` is not positive.
    """

    def __init__(
        self,
        decoder: nn.Module,
        tokenizer: Any,
        batch_tokens: int = 8192,
        precision: str = "fp32",
        track: Track = iter,
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

    @property
    def eot_token_id(self) -> int:
        """Id of the end-of-text token; lm-eval's `prefix_token_id` is the same."""
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
        """Token ids of `string`; special tokens are never added, whatever lm-eval asks for."""
        return self.tokenizer.encode(string)

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
            "add_bos_token": False,
        }

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """(log-likelihood in nats, whether greedy decoding gives it) of each request's continuation.

        Raises:
            TasksRefused: a continuation is empty or does not fit the decoder's window.
        """
        empty = {request.task_name: "a continuation is empty; remove it" for request in requests if not request.args[1]}
        if empty:
            raise TasksRefused(empty)
        try:
            return super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        except RequestsRefused as error:
            raise TasksRefused({requests[i].task_name: reason for i, reason in error.reasons.items()}) from None

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Log-likelihood in nats of each whole text, in windows that predict every token once."""
        windows: list[tuple[None, list[int], list[int]]] = []
        owners: list[int] = []
        for owner, request in enumerate(requests):
            token_ids = self.tok_encode(request.args[0])
            for window in get_rolling_token_windows(token_ids, self.prefix_token_id, self.max_length, context_len=1):
                windows.append((None, *make_disjoint_window(window)))
                owners.append(owner)
        totals = [0.0] * len(requests)
        for owner, (log_likelihood, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[owner] += log_likelihood
        return totals

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Greedy continuations, each cut before its first stop string or the end-of-text token.

        Raises:
            TasksRefused: a task asks for sampling, or for more tokens than the window has room for.
        """
        prompts = [self._prompt(request) for request in requests]
        require_equal(prompts, "the prompts to continue")
        batches = plan_batches([len(p.token_ids) + p.max_new_tokens for p in prompts], self.batch_tokens)

        def run(items: list[int]) -> list[str]:
            batch = [prompts[item] for item in items]
            return generate_greedily(batch, self._next_logits, self.tok_decode, self.eot_token_id)

        with borrowed(self.decoder):
            return run_batches(batches, run, self.track)

    def _loglikelihood_tokens(self, requests: list[Any], **kwargs: Any) -> list[tuple[float, bool]]:
        pairs: list[TokenPair] = [(context, continuation) for _, context, continuation in requests]
        misfits = {i: reason for i, pair in enumerate(pairs) if (reason := self._misfit(*pair))}
        if misfits:
            raise RequestsRefused(misfits)
        require_equal(pairs, "the requests")
        # The input lacks the last token, which is only predicted; too long a context loses its beginning.
        inputs = [(context + continuation)[-(self.max_length + 1) :][:-1] for context, continuation in pairs]
        batches = plan_batches([len(row) for row in inputs], self.batch_tokens)

        def run(items: list[int]) -> list[tuple[float, bool]]:
            return self._score([inputs[item] for item in items], [pairs[item][1] for item in items])

        with borrowed(self.decoder):
            return run_batches(batches, run, self.track)

    def _misfit(self, context: list[int], continuation: list[int]) -> str | None:
        if not context or not continuation:
            return f"{len(context)} context and {len(continuation)} answer tokens; both need one at least"
        if len(continuation) > self.max_length:
            return (
                f"an answer of {len(continuation)} tokens exceeds the decoder's window of {self.max_length}; "
                "drop the task or raise max_sequence_length"
            )
        return None

    def _score(self, inputs: list[list[int]], continuations: list[list[int]]) -> list[tuple[float, bool]]:
        """Scores the last `len(continuation)` predictions of each input row."""
        logits = self._forward(inputs)
        rows, positions = [], []
        for row, (token_ids, continuation) in enumerate(zip(inputs, continuations, strict=True)):
            rows += [row] * len(continuation)
            positions += range(len(token_ids) - len(continuation), len(token_ids))
        # Only the scored positions are normalised, so that no second copy of all logits is made.
        log_probabilities = torch.log_softmax(logits[rows, positions].float(), dim=-1)
        targets = torch.tensor([token for c in continuations for token in c], device=logits.device)
        token_scores = log_probabilities.gather(1, targets.unsqueeze(1)).squeeze(1)
        greedy = log_probabilities.argmax(-1) == targets
        lengths = [len(continuation) for continuation in continuations]
        return [
            (float(scores.sum()), bool(matches.all()))
            for scores, matches in zip(token_scores.split(lengths), greedy.split(lengths), strict=True)
        ]

    def _forward(self, rows: list[list[int]]) -> Tensor:
        device = next(self.decoder.parameters()).device
        return forward(self.decoder, pad_right(rows, self.eot_token_id, device), self.precision)

    def _next_logits(self, rows: list[list[int]]) -> Tensor:
        logits = self._forward(rows)
        return logits[range(len(rows)), [len(row) - 1 for row in rows]].float()

    def _prompt(self, request: Any) -> Prompt:
        context, arguments = request.args
        arguments = normalize_gen_kwargs(arguments, self.max_gen_toks)
        if arguments["do_sample"]:
            raise TasksRefused({request.task_name: "asks for sampling; only greedy decoding is supported"})
        room = self.max_length - arguments["max_gen_toks"]
        if room < 1:
            reason = (
                f"max_gen_toks {arguments['max_gen_toks']} leaves no room for a prompt in the decoder's window of "
                f"{self.max_length}; set generation_kwargs.max_gen_toks lower"
            )
            raise TasksRefused({request.task_name: reason})
        until = handle_stop_sequences(arguments["until"], eos=self.tok_decode([self.eot_token_id]))
        token_ids = self.tok_encode(context)[-room:] or [self.prefix_token_id]
        return Prompt(token_ids, arguments["max_gen_toks"], [stop for stop in until if stop])

"""`polycom generate`: continue prompts from a checkpoint."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from lightning_polycom.checkpoints import load_decoder
from lightning_polycom.commands.parsing import OneLineParser
from lightning_polycom.data.tokenizer import Tokenizer
from lightning_polycom.errors import InputError
from lightning_polycom.evaluation.incremental_text import IncrementalText
from lightning_polycom.model.generation import generate

MIN_TEMPERATURE = 1e-3  # below, scaled logits overflow
SEPARATOR = "\n\n"  # between the texts of several prompts


@dataclass
class GenerateOptions:
    """How to continue.

    Args:
        max_new_tokens: Tokens to write at most; an end-of-text token ends the text before.
        temperature: 0 takes the most likely token; higher is more varied.
        top_p: Draw from the smallest set of tokens with this much probability.
        seed: Seed of the draw.
    """

    max_new_tokens: int = 128
    temperature: float = 0.8
    top_p: float = 0.95
    seed: int = 1234

    def __post_init__(self) -> None:
        if self.temperature != 0 and not MIN_TEMPERATURE <= self.temperature < math.inf:
            raise InputError(f"temperature: found {self.temperature}; give 0 for greedy, or {MIN_TEMPERATURE} or more")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed: found {self.seed}; give a number from 0 to 2^63 - 1")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p: found {self.top_p}; give a probability above 0, at most 1")
        if self.max_new_tokens < 1:
            raise InputError(f"max_new_tokens: found {self.max_new_tokens}; it must be at least 1")


def main() -> None:
    """Parses the options and prints each prompt and its continuation as it grows."""
    parser = OneLineParser(prog="polycom generate", description="Continue prompts from a checkpoint.")
    parser.add_argument("checkpoint", help="A .ckpt file, a run's folder (its newest step) or runs/NAME.")
    parser.add_argument(
        "--prompt", nargs="+", type=str, default=[""], help="One or more texts to continue; empty begins a document."
    )
    parser.add_class_arguments(GenerateOptions, as_group=False)
    values = parser.parse_args(sys.argv[2:]).as_dict()
    checkpoint, prompts = values.pop("checkpoint"), values.pop("prompt")
    for piece in continued(checkpoint, prompts, GenerateOptions(**values)):
        print(piece, end="", flush=True)
    print()


def continued(checkpoint: str, prompts: list[str], options: GenerateOptions) -> Iterator[str]:
    """The prompts and what the checkpoint's decoder writes behind each, in pieces, prompt after prompt.

    All prompts grow side by side; the text of one is passed on as it grows, once those before it are complete.
    """
    decoder, tokenizer = load_decoder(checkpoint)
    texts = [_Text(prompt, tokenizer, options.max_new_tokens) for prompt in prompts]
    ids = [_beginning(prompt, tokenizer) for prompt in prompts]
    sampling = (options.temperature, options.top_p, options.seed)
    shown = 0
    yield texts[0].taken()
    for number, token in generate(decoder, ids, options.max_new_tokens, *sampling, eos=tokenizer.eos_token_id):
        texts[number].add(token)
        yield texts[shown].taken()
        while texts[shown].complete and shown + 1 < len(texts):
            shown += 1
            yield SEPARATOR + texts[shown].taken()


def _beginning(prompt: str, tokenizer: Tokenizer) -> list[int]:
    """The ids of a prompt, behind the token that begins each document; without one, end of text stands for nothing."""
    if tokenizer.bos_token_id is not None:
        return [tokenizer.bos_token_id, *tokenizer.encode(prompt)]
    return tokenizer.encode(prompt) or [tokenizer.eos_token_id]


class _Text:
    """A prompt and its continuation as they become text."""

    def __init__(self, prompt: str, tokenizer: Tokenizer, max_new_tokens: int):
        self._waiting, self._eos, self._room = prompt, tokenizer.eos_token_id, max_new_tokens
        self._stream = IncrementalText(tokenizer.decode)
        self.complete = False

    def add(self, token: int) -> None:
        """Takes the next token; `complete` says whether it was the last."""
        self._room -= 1
        self._waiting += "" if token == self._eos else self._stream.add(token)
        self.complete = token == self._eos or self._room == 0
        if self.complete:
            self._waiting += self._stream.finish()

    def taken(self) -> str:
        """The text since the last call."""
        text, self._waiting = self._waiting, ""
        return text

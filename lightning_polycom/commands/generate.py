"""`polycom generate`: continue a prompt from a checkpoint."""

import math
import sys
from dataclasses import dataclass

from lightning_polycom.checkpoints import load_decoder
from lightning_polycom.commands.parsing import OneLineParser
from lightning_polycom.errors import InputError
from lightning_polycom.model.generation import generate

MIN_TEMPERATURE = 1e-3  # below, scaled logits overflow


@dataclass
class GenerateOptions:
    """How to continue.

    Args:
        prompt: Text to continue; empty begins a document.
        max_new_tokens: Tokens to write at most; an end-of-text token ends the text before.
        temperature: 0 takes the most likely token; higher is more varied.
        top_p: Draw from the smallest set of tokens with this much probability.
        seed: Seed of the draw.
    """

    prompt: str = ""
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
    """Parses the options and prints the prompt and its continuation."""
    parser = OneLineParser(prog="polycom generate", description="Continue a prompt from a checkpoint.")
    parser.add_argument("checkpoint", help="A .ckpt file, a run's folder (its newest step) or runs/NAME.")
    parser.add_class_arguments(GenerateOptions, as_group=False)
    values = parser.parse_args(sys.argv[2:]).as_dict()
    checkpoint = values.pop("checkpoint")
    print(continuation(checkpoint, GenerateOptions(**values)))


def continuation(checkpoint: str, options: GenerateOptions) -> str:
    """The prompt and what the checkpoint's decoder writes after it."""
    decoder, tokenizer = load_decoder(checkpoint)
    ids = tokenizer.encode(options.prompt) or [tokenizer.eos_token_id]
    written = []
    for token in generate(decoder, ids, options.max_new_tokens, options.temperature, options.top_p, options.seed):
        if token == tokenizer.eos_token_id:
            break
        written.append(token)
    return options.prompt + tokenizer.decode(written)

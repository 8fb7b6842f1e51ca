"""A causal decoder of a few thousand parameters and two tokenizers, for the tests of this folder and their scripts."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_polycom.model import Decoder, DecoderConfig, InitializationConfig
from lightning_polycom.model.initialization import initialize


class TinyDecoder(Decoder):
    """Two layers; counts its forward passes and the tokens in them. Dropout makes a forgotten `eval()` visible."""

    def __init__(self, vocab_size: int, max_sequence_length: int, seed: int = 0):
        spread = InitializationConfig(standard_deviation=0.4, scale_residual_outputs=False)
        super().__init__(
            DecoderConfig(vocab_size, 16, 2, 2, 32, max_sequence_length=max_sequence_length, initialization=spread)
        )
        self.dropout = nn.Dropout(0.5)
        self.calls = 0
        self.largest = 0
        self.read = 0
        initialize(self, seed)

    def hidden_states(self, input_ids: Tensor, *arguments: Any, **options: Any) -> tuple[Tensor, list]:
        self.calls += 1
        self.read += input_ids.numel()
        self.largest = max(self.largest, input_ids.numel())
        hidden, routings = super().hidden_states(input_ids, *arguments, **options)
        return self.dropout(hidden), routings


class ByteTokenizer:
    """One id a byte, and 256 for the end of a text."""

    vocab_size = 257
    eos_token_id = 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: list[int]) -> str:
        return bytes(i for i in ids if i < 256).decode(errors="replace")


class SharedTokenizer:
    """The 1,024-id tokenizer of the folder of real data; its end of text is id 0."""

    vocab_size = 1024
    eos_token_id = 0

    def __init__(self, shared: Path):
        import tokenizers

        self.backend = tokenizers.Tokenizer.from_file(str(shared / "tokenizers" / "bpe-1024.json"))

    def encode(self, text: str) -> list[int]:
        return self.backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: list[int]) -> str:
        return self.backend.decode(ids)


def plain_log_likelihood(
    decoder: nn.Module, context: list[int], continuation: list[int], window: int
) -> tuple[float, bool]:
    """The definition: one sequence at a time, the whole softmax, one token after the other."""
    ids = (context + continuation)[-(window + 1) :]
    training = decoder.training
    decoder.eval()
    with torch.no_grad():
        log_probabilities = torch.log_softmax(decoder(torch.tensor([ids[:-1]]))[0].double(), dim=-1)
    decoder.train(training)
    total, greedy = 0.0, True
    for position in range(len(ids) - len(continuation), len(ids)):
        total += float(log_probabilities[position - 1, ids[position]])
        greedy = greedy and int(log_probabilities[position - 1].argmax()) == ids[position]
    return total, greedy

"""A causal decoder of a few thousand parameters and two tokenizers, for the tests of this folder and their scripts."""

import math
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn


class TinyDecoder(nn.Module):
    """One layer of causal attention; counts its forward passes. Dropout makes a forgotten `eval()` visible."""

    def __init__(self, vocab_size: int, max_sequence_length: int, seed: int = 0):
        super().__init__()
        self.config = SimpleNamespace(vocab_size=vocab_size, max_sequence_length=max_sequence_length)
        self.embedding = nn.Embedding(vocab_size, 16)
        self.position = nn.Embedding(max_sequence_length, 16)
        self.mix = nn.Linear(16, 48, bias=False)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(16, vocab_size, bias=False)
        self.calls = 0
        self.largest = 0
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)

    def forward(self, input_ids: Tensor) -> Tensor:
        self.calls += 1
        self.largest = max(self.largest, input_ids.numel())
        length = input_ids.shape[1]
        x = self.embedding(input_ids) + self.position(torch.arange(length))
        q, k, v = self.mix(x).chunk(3, dim=-1)
        scores = q @ k.transpose(1, 2) / math.sqrt(16)
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        return self.head(self.dropout(x + scores.masked_fill(future, -torch.inf).softmax(-1) @ v))


class ByteTokenizer:
    """One id a byte, and 256 for the end of a text."""

    vocab_size = 257
    eos_token_id = 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

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

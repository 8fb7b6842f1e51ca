"""What a decoder does with real text: hidden states and activations, watched through hooks that go away again."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_polycom.activations import Activation
from lightning_polycom.analysis.effective_rank import feed_forward_ranks
from lightning_polycom.analysis.layer_similarity import LayerSimilarity
from lightning_polycom.analysis.probe_windows import ProbeWindows
from lightning_polycom.analysis.value_statistics import ValueStatistics, overflow_headroom_bits
from lightning_polycom.evaluation.live_decoder import borrowed, forward
from lightning_polycom.evaluation.ranks import gather, rank_and_world_size
from lightning_polycom.model import Decoder
from lightning_polycom.training.sharding import reshard, whole

Track = Callable[[Iterable], Iterable]


def analyze_weights(decoder: Decoder, track: Track = iter) -> dict[str, Any]:
    """Effective ranks of the feed-forward's matrices, and the learned coefficients, per layer. Collective.

    `effective_rank` has the mean over experts where there are experts, whose own values are then in
    `effective_rank_per_expert` and whose standard deviation in `effective_rank_spread`.
    """
    by_name = feed_forward_ranks(decoder, track)
    ranks = {name: torch.tensor(values, dtype=torch.float64) for name, values in by_name.items()}
    found = {"effective_rank": {name: values.mean(1).tolist() for name, values in ranks.items()}}
    own = {name: values for name, values in ranks.items() if values.shape[1] > 1}
    if own:
        found["effective_rank_per_expert"] = {name: values.tolist() for name, values in own.items()}
        found["effective_rank_spread"] = {name: values.std(1, correction=0).tolist() for name, values in own.items()}
    found["coefficients"] = [whole(block.feed_forward.activation).learned_values() for block in decoder.blocks]
    return found


def analyze_text(decoder: Decoder, windows: ProbeWindows, precision: str, track: Track = iter) -> dict[str, Any]:
    """Layer similarity and activation statistics over the windows' tokens. Collective.

    `layer_similarity` is over the embedding's output and every block's. A layer's `input` and `output` are its
    activation's; the input of a gated one is the gate's, and `up` is the other branch. The decoder runs eagerly,
    without gradients, and is left as it was. `precision` is fp32 or bf16; `track` wraps the batches.
    """
    watch, (rank, world_size) = _Watch(decoder), rank_and_world_size()
    device = decoder.embedding.weight.device
    rounds = range(0, len(windows), world_size)
    with borrowed(decoder), watch.hooks():
        for first in track(rounds):
            number = first + rank
            # A rank that has no batch left passes the last one again: passes must line up where weights are shared.
            batch = windows.read(min(number, len(windows) - 1)).to(device)
            watch.counts = number < len(windows)
            forward(decoder, batch.input_ids, precision, positions=batch.positions, read=_nothing)
            watch.end_pass()
    reshard(decoder)
    watch.merge_ranks()
    return {
        "num_tokens": watch.similarity.num_tokens,
        "layer_similarity": watch.similarity.mean().tolist(),
        "activation_statistics": watch.activation_statistics(),
    }


def _nothing(hidden: Tensor, head: nn.Linear) -> Tensor:
    """Logits are not asked for."""
    return hidden[:, :0]


class _Watch:
    """Sees every forward pass of a decoder while its hooks are there."""

    def __init__(self, decoder: Decoder):
        self.decoder, self.counts = decoder, True
        self.similarity = LayerSimilarity()
        self.statistics: list[dict[str, ValueStatistics]] = [{} for _ in decoder.blocks]
        self._states: list[Tensor] = []

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Watches inside the block."""
        handles = [self.decoder.embedding.register_forward_hook(self._see_state)]
        for layer, block in enumerate(self.decoder.blocks):
            handles.append(block.register_forward_hook(self._see_state))
            hook = self._activation_hook(layer)
            handles.append(block.feed_forward.activation.register_forward_hook(hook))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def end_pass(self) -> None:
        """Takes in the hidden states of the pass that has ended."""
        if self.counts:
            self.similarity.add(self._states)
        self._states.clear()

    def merge_ranks(self) -> None:
        """Makes every rank's the statistics of all ranks. Collective."""
        parts = gather((self.similarity, self.statistics))
        self.similarity = LayerSimilarity()
        self.statistics = [{} for _ in self.decoder.blocks]
        for similarity, statistics in parts:
            self.similarity.merge(similarity)
            for mine, theirs in zip(self.statistics, statistics, strict=True):
                for place, values in theirs.items():
                    mine.setdefault(place, ValueStatistics()).merge(values)

    def activation_statistics(self) -> list[dict[str, Any]]:
        """One entry a layer."""
        found = []
        for layer, (block, places) in enumerate(zip(self.decoder.blocks, self.statistics, strict=True)):
            entry: dict[str, Any] = {"layer": layer}
            for place, values in places.items():
                power = block.feed_forward.activation.highest_power if place == "input" else 1
                headroom = overflow_headroom_bits(values.max_abs, power)
                entry[place] = {**values.summary(), "power": power, "overflow_headroom_bits": headroom}
            found.append(entry)
        return found

    def _see_state(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self.counts:
            self._states.append(output[0] if isinstance(output, tuple) else output)

    def _activation_hook(self, layer: int) -> Callable:
        def see(module: Activation, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self.counts:
                seen = {"input": inputs[0], "output": output} | ({"up": inputs[1]} if module.gated else {})
                for place, values in seen.items():
                    self.statistics[layer].setdefault(place, ValueStatistics()).add(values)

        return see

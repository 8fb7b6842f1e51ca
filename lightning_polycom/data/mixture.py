"""Mixtures of domains as arithmetic: which domain a position of the training stream comes from, by exact quotas.

The stream runs through one pattern of CYCLE positions again and again. In the pattern every domain has its share of
positions, spread evenly: after n samples each domain has had its weight's share of n, to within a few samples and
n / CYCLE. A domain's own samples come in its own order, epoch after epoch. Nothing is drawn at random and nothing is
stored but the pattern: a position is still one integer.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from lightning_polycom.data.order import SampleOrder
from lightning_polycom.errors import InputError

CYCLE = 10_000


class Span(NamedTuple):
    """One domain of the training text: where its tokens lie in it, and the hash of its contents."""

    domain: str
    first_token: int
    num_tokens: int
    fingerprint: str


class Source(NamedTuple):
    """One domain of the training shards: where its tokens begin among them, and the order of its samples."""

    domain: str
    first_token: int
    order: SampleOrder


class Weighting(NamedTuple):
    """The weights that hold from a global sample position on."""

    start: int
    weights: dict[str, float]


class Pattern:
    """The domains of CYCLE successive positions.

    Raises:
        InputError: a weight that is negative or not finite, none above 0, or one that is less than a position's share.
    """

    def __init__(self, weights: Sequence[float]):
        values = np.asarray(weights, dtype=np.float64)
        if not np.isfinite(values).all() or (values < 0).any() or not values.any():
            raise InputError(f"data.mixture: found weights {list(weights)}; give numbers of 0 or more, one above 0")
        self.quotas = _apportion(values / values.sum())
        if ((values > 0) & (self.quotas == 0)).any():
            raise InputError(
                f"data.mixture: found weight {values[(values > 0) & (self.quotas == 0)][0]:g}, less than one sample in "
                f"{CYCLE:,}; raise it, or set it to 0"
            )
        # A domain of quota q is due at (j + 1/2) / q of the cycle, j = 0..q-1; whoever is due first comes first.
        due = np.concatenate([(np.arange(q) + 0.5) / q for q in self.quotas])
        owner = np.repeat(np.arange(len(values)), self.quotas)
        self.sources = owner[np.argsort(due, kind="stable")]
        one_hot = self.sources[:, None] == np.arange(len(values))
        self._before = np.concatenate([np.zeros((1, len(values)), np.int64), np.cumsum(one_hot, 0)])

    def counts(self, length: int | np.ndarray) -> np.ndarray:
        """Samples of each domain among the first `length` positions: int64 (..., domains)."""
        cycles, rest = np.divmod(np.asarray(length, np.int64), CYCLE)
        return cycles[..., None] * self.quotas + self._before[rest]

    def source_of(self, positions: np.ndarray) -> np.ndarray:
        """The domain's number at each position: int64, the shape of `positions`."""
        return self.sources[positions % CYCLE]


class MixtureOrder:
    """The endless stream of samples of several domains, with weights that may have changed between two starts.

    A change of weights takes effect at a position; what each domain had given until then is counted with the weights
    of that time, so that its own order goes on where it was.

    Raises:
        InputError: weights that are no weights.
    """

    def __init__(self, sources: Sequence[Source], weightings: Sequence[Weighting]):
        self.sources, self.weightings = list(sources), list(weightings)
        self._patterns = [Pattern([s.weights.get(source.domain, 0.0) for source in sources]) for s in weightings]
        given = [np.zeros(len(self.sources), np.int64)]
        for pattern, (now, following) in zip(self._patterns, pairwise(s.start for s in self.weightings), strict=False):
            given.append(given[-1] + pattern.counts(following - now))
        self._given = given

    def starts(self, positions: np.ndarray, sequence_length: int) -> np.ndarray:
        """First tokens of the samples at the given positions of the stream, int64 (count,): int64 (count,)."""
        out = np.empty(len(positions), np.int64)
        ends = [weighting.start for weighting in self.weightings[1:]] + [None]
        for number, (weighting, end) in enumerate(zip(self.weightings, ends, strict=True)):
            inside = (positions >= weighting.start) & (True if end is None else positions < end)
            if inside.any():
                out[inside] = self._weighting_starts(number, positions[inside] - weighting.start, sequence_length)
        return out

    def counts(self, position: int) -> dict[str, int]:
        """Samples of each domain in the stream before `position`."""
        number = max(i for i, weighting in enumerate(self.weightings) if weighting.start <= position)
        within = self._patterns[number].counts(position - self.weightings[number].start)
        totals = self._given[number] + within
        return {source.domain: int(n) for source, n in zip(self.sources, totals, strict=True)}

    def epochs(self, position: int) -> dict[str, float]:
        """How often each domain has been gone through before `position`."""
        counts = self.counts(position)
        return {source.domain: counts[source.domain] / source.order.num_samples for source in self.sources}

    def _weighting_starts(self, number: int, positions: np.ndarray, sequence_length: int) -> np.ndarray:
        """First tokens at `positions`, counted from the weighting's start."""
        pattern = self._patterns[number]
        owners, before = pattern.source_of(positions), self._given[number] + pattern.counts(positions)
        out = np.empty(len(positions), np.int64)
        for index, source in enumerate(self.sources):
            mine = owners == index
            if mine.any():
                drawn = source.order.at(before[mine, index])
                out[mine] = source.first_token + drawn * sequence_length
        return out


def continued(weightings: Sequence[Weighting], weights: dict[str, float], position: int) -> list[Weighting]:
    """The weightings of a run that goes on at `position` with `weights`: one more if they have changed."""
    kept = [Weighting(start, dict(old)) for start, old in weightings if start < position]
    if kept and _shares(kept[-1].weights) == _shares(weights):
        return kept
    return [*kept, Weighting(position if kept else 0, weights)]


def mixture_sources(spans: Sequence[Span], seed: int, sequence_length: int, domains: Sequence[str]) -> list[Source]:
    """The named ones among the domains of the training text, each with the order of its samples.

    Raises:
        InputError: a domain that is not there, or that is shorter than a sample.
    """
    known, sources = {span.domain: span for span in spans}, []
    for domain in domains:
        if domain not in known:
            raise InputError(f"data.mixture: no training domain '{domain}'; there are {', '.join(known)}")
        tokens = known[domain].num_tokens
        if tokens <= sequence_length:
            raise InputError(
                f"data.mixture: '{domain}' has {tokens} training tokens, no more than a sample of {sequence_length}; "
                "leave it out, or shorten data.sequence_length"
            )
        order = SampleOrder((tokens - 1) // sequence_length, seed, known[domain].fingerprint)
        sources.append(Source(domain, known[domain].first_token, order))
    return sources


def _shares(weights: dict[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {domain: weight / total for domain, weight in sorted(weights.items()) if weight}


def _apportion(shares: np.ndarray) -> np.ndarray:
    """Whole numbers that sum to CYCLE and are nearest to the shares of it (largest remainders)."""
    exact = shares * CYCLE
    quotas = np.floor(exact).astype(np.int64)
    missing = CYCLE - int(quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[:missing]] += 1
    return quotas

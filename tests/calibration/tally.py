"""What a scenario's repetitions add up to, the error of such a figure, and the score of a judge."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scenarios import Bar, Quantity, Scenario
from scipy import stats


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """How often a judge promoted, reverted and did neither, over cells, and the share of the planned blocks it used."""

    promote: int
    revert: int
    undecided: int
    sample_share: float = 1.0

    @property
    def total(self) -> int:
        return self.promote + self.revert + self.undecided

    def score(self, *, should_promote: bool | None) -> float:
        """Return 20·P(false promote) + 5·P(false revert) + P(inconclusive) + ASN/N; lower is better."""
        false_promote = self.promote if should_promote is False else 0
        false_revert = self.revert if should_promote is True else 0
        return (20 * false_promote + 5 * false_revert + self.undecided) / self.total + self.sample_share


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The outcome of one scenario, in counts over cells unless said otherwise."""

    reps: int
    cells: int
    passed: int
    marginal: int
    failed: int
    undecided: int
    any_fail: int  # repetitions with a failed cell
    named: int  # repetitions in which the sick host was named
    blocks: int  # treated blocks planned
    blocks_used: float  # mean, over cells
    blocks_squared: float  # mean square, for the error of the mean
    t_blocks: float  # smallest fixed t-test with the same errors
    information: float  # (Δ/2)²/(2·variance of the effect with all planned blocks)

    @property
    def ours(self) -> Calls:
        """The gate as a judge among the others."""
        used = self.blocks_used / self.blocks
        promote = self.passed + self.marginal
        return Calls(promote=promote, revert=self.failed, undecided=self.undecided, sample_share=used)

    def figure(self, quantity: Quantity, *, confidence: float = 0.99) -> tuple[float, float, float]:
        """Return a quantity with its Monte-Carlo bounds: Clopper–Pearson for shares, normal for means."""
        total = self.reps * self.cells
        match quantity:
            case Quantity.FAIL:
                return _share(self.failed, total, confidence)
            case Quantity.PASS:
                return _share(self.passed, total, confidence)
            case Quantity.PROMOTE:
                return _share(self.passed + self.marginal, total, confidence)
            case Quantity.ANY_FAIL:
                return _share(self.any_fail, self.reps, confidence)
            case Quantity.NAMED:
                return _share(self.named, self.reps, confidence)
            case Quantity.ASN:
                deviation = np.sqrt(max(0.0, self.blocks_squared - self.blocks_used**2) / total)
                half = stats.norm.isf((1 - confidence) / 2) * deviation / self.t_blocks
                mean = self.blocks_used / self.t_blocks
                return mean, mean - half, mean + half
            case Quantity.MAX_N:
                ratio = self.blocks / self.t_blocks
                return ratio, ratio, ratio

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """The other judges on the same draws, each as (name, feeding)."""

    calls: Mapping[tuple[str, str], Calls] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {f"{name}|{feeding}": asdict(calls) for (name, feeding), calls in self.calls.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Mapping[str, Any]]) -> "Others":
        named = {tuple(key.split("|")): Calls(**value) for key, value in data.items()}
        return cls(calls={(name, feeding): calls for (name, feeding), calls in named.items()})


def _share(count: int, total: int, confidence: float) -> tuple[float, float, float]:
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, count, total - count + 1)) if count else 0.0
    high = float(stats.beta.ppf(1 - tail, count + 1, total - count)) if count < total else 1.0
    return count / total, low, high


class Reach:
    """How a figure stands to its bar."""

    MET = "met"
    WITHIN_ERROR = "met within Monte-Carlo error"
    MISSED = "MISSED"


def reached(bar: Bar, figure: tuple[float, float, float]) -> str:
    """Say whether a figure meets its bar, misses it by no more than its Monte-Carlo error, or misses it."""
    value, low, high = figure
    if value >= bar.limit if bar.at_least else value <= bar.limit:
        return Reach.MET
    return Reach.WITHIN_ERROR if (high >= bar.limit if bar.at_least else low <= bar.limit) else Reach.MISSED


def smallest_t_test(sigma: float, delta: float, *, ratio: float | None = None, alpha: float = 0.01) -> float:
    """Return the treated blocks of the smallest fixed t-test with one-sided errors alpha (revert) and 5 % at delta.

    `ratio` is controls per treated host for two arms (sigma then that of one host's difference), None for one sample.
    """
    for n in range(2, 100_000):
        if ratio is None:
            freedom, error = n - 1, sigma / np.sqrt(n)
        else:
            controls = max(2, round(ratio * n))
            freedom, error = n + controls - 2, sigma * np.sqrt(1 / n + 1 / controls)
        power = stats.nct.sf(stats.t.isf(alpha, freedom), freedom, delta / error)
        if power >= 0.95:
            return float(n)
    raise ValueError(f"no t-test up to 100000 blocks for sigma {sigma} and delta {delta}")


def best_other(others: Others, scenario: Scenario) -> tuple[str, float]:
    """Return the other judge (with its feeding) that scores lowest, and its score."""
    scores = {
        f"{name}, {feeding}": calls.score(should_promote=scenario.should_promote)
        for (name, feeding), calls in others.calls.items()
    }
    best = min(scores, key=lambda name: (scores[name], name))
    return best, scores[best]

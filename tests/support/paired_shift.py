"""Whether something beside a workload moves its figure: pairs of measurements, judged as the gate judges hosts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controller.gate.planning.power import contrast_sigma
from controller.gate.priors import PRIORS
from controller.gate.statistics.bounds import describe
from controller.gate.statistics.cells import CellPlan, Design, judge_cells
from controller.gate.statistics.contrasts import host_change, log_margin
from controller.gate.verdict import Verdict

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How the figure changes when it is there."""

    pairs: int
    # Of each side of a pair.
    runs: int
    # Of the figure itself, whichever way is better.
    estimate_percent: float
    # Two-sided interval at CONFIDENCE.
    low_percent: float
    high_percent: float
    margin_percent: float
    verdict: str

    @property
    def passes(self) -> bool:
        """Return whether no shift is seen and one as large as the margin is excluded."""
        return self.verdict == Verdict.PASS.name


def judge_shift(metric: str, without: Sequence[Sequence[float]], beside: Sequence[Sequence[float]]) -> Shift:
    """Judge pairs, each of some runs without it and some beside it, by the metric's own margin. One look, all pairs."""
    prior = PRIORS[metric]
    # A pair stands where the gate has a host: one boot a side, whose runs count as one value.
    first, second = (np.array(side, dtype=np.float64)[None, :, None, :] for side in (without, beside))
    changes = host_change(first, second, higher_is_better=prior.higher_is_better)
    pairs, runs = len(without), len(without[0])
    plan = CellPlan(
        design=Design.PAIRS,
        margin=log_margin(prior.margin),
        n_max=pairs,
        looks=(pairs,),
        sigma=contrast_sigma(Design.PAIRS, run_sd=prior.cv, runs=runs),
    )
    judged = judge_cells(changes, plan)
    estimate, *ends = describe(changes, None, CONFIDENCE)
    # Contrasts are oriented so that more is worse.
    sign = -1 if prior.higher_is_better else 1
    low, high = sorted(_percent(sign * end[0]) for end in ends)
    return Shift(
        pairs=pairs,
        runs=runs,
        estimate_percent=_percent(sign * estimate[0]),
        low_percent=low,
        high_percent=high,
        margin_percent=100 * prior.margin,
        verdict=Verdict(int(judged.verdict[0])).name,
    )


def _percent(log_ratio: float) -> float:
    return float(100 * np.expm1(log_ratio))

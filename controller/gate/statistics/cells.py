"""The decision on a performance cell (metric × stratum), for as many cells or repetitions as there are rows.

Two one-sided questions with a margin Δ fixed beforehand: promote when θ ≥ Δ is rejected, revert when θ ≤ κΔ is. With
the repeated bounds L and U of a look: U < Δ and L ≤ 0 is PASS; U < Δ and L > 0 MARGINAL; L > κΔ and U ≥ Δ FAIL, if the
estimate is near Δ (`looks.NEAR`); anything else waits for the next look and is INCONCLUSIVE at the last. Each bound
spends an error of its own (`sequential`).
"""

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.gate.statistics.looks import Found, History, Question, Sample, ask_ranks, ask_t, take
from controller.gate.statistics.sequential import Spending
from controller.gate.verdict import Verdict

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

# Keeps a real but tolerable shift (about Δ/2) from reverting at an early look.
KAPPA: Final = 0.25
# What a false revert and a false promotion may cost. Reverting is loud and stops everybody, so it errs less often.
ALPHA_REVERT: Final = 0.01
ALPHA_PROMOTE: Final = 0.05
# Reverting spends late, when more hosts have spoken; promoting a little earlier.
GAMMA_REVERT: Final = -2.0
GAMMA_PROMOTE: Final = -1.0
# More looks than this gain nothing, and each costs milliseconds.
MOST_LOOKS: Final = 200


class Design(StrEnum):
    """How a cell's blocks come about."""

    TWO_ARMS = "two_arms"
    PAIRS = "pairs"
    ABBA = "abba"
    BEFORE_AFTER = "before_after"  # no design: the kernel is confounded with time, and nothing is decided


class Method(StrEnum):
    """What the bounds are made of."""

    RANKS = "ranks"
    T_SEQUENCE = "t_sequence"  # for low noise on fewer blocks than ranks can decide on


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPlan:
    """Everything about a cell that is fixed before its first look. Effects in log units."""

    design: Design
    margin: float
    # Planned blocks: contrasts, or treated hosts of two arms.
    n_max: int
    # Control hosts of two arms; 0 otherwise.
    n_max_control: int = 0
    # Blocks enrolled at each look, ascending.
    looks: tuple[int, ...]
    # Control hosts enrolled at each look, where that is known beforehand; empty: in proportion.
    looks_control: tuple[int, ...] = ()
    # Standard deviation of one contrast that the plan assumes; the t sequence needs it, ranks do not.
    sigma: float
    revert: Spending = field(default_factory=lambda: Spending(alpha=ALPHA_REVERT, gamma=GAMMA_REVERT))
    promote: Spending = field(default_factory=lambda: Spending(alpha=ALPHA_PROMOTE, gamma=GAMMA_PROMOTE))
    kappa: float = KAPPA
    method: Method = Method.RANKS

    @property
    def control_looks(self) -> tuple[int, ...]:
        """Control hosts enrolled at each look: as planned, else in proportion."""
        return self.looks_control or tuple(
            max(1, round(n * self.n_max_control / self.n_max)) if n else 0 for n in self.looks
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResults:
    """One entry a row, as of the look that decided it or else of the last."""

    verdict: NDArray[np.int8]
    # Number of the look, from 1.
    look: Ints
    # Blocks enrolled by then, control hosts included.
    blocks: Ints
    # Contrasts, or hosts of both arms, that had values.
    present: Ints
    # Hodges–Lehmann estimate (mean for the t sequence); NaN without a value, ±inf when most runs timed out.
    estimate: Floats
    # L and U; ∓inf when there is none at this look.
    low: Floats
    high: Floats
    # Hosts far outside the rest, by the column they are in: treated (or all) hosts, and control hosts.
    sick: Bools
    sick_control: Bools
    # Every value is the same: that is no measurement, and is not decided on.
    constant: Bools


def judge_cells(
    treated: Floats,
    plan: CellPlan,
    *,
    control: Floats | None = None,
    own: tuple[Floats, Floats] | None = None,
    margin: Floats | None = None,
    withhold: Bools | None = None,
    final: bool = True,
    with_bounds: bool = True,
) -> CellResults:
    """Judge every row of contrasts [rows, blocks] in order of enrolment, look by look, until it is decided.

    NaN is missing, ±inf a worst rank. `control` holds the control hosts' own changes, for two arms only; `own` the
    treated and the control hosts' changes behind the contrasts of matched pairs, so that a sick host can be told from
    its partner. `margin` replaces the plan's per row. `withhold` [rows, looks]: no PASS or MARGINAL there, as
    `completion` asks. Without `final` an undecided row stays NEED_MORE_DATA. Planned blocks without a column are
    missing.
    """
    assert (control is not None) == (plan.design is Design.TWO_ARMS), "two arms have controls, other designs do not"
    assert own is None or plan.design is Design.PAIRS, "only pairs have partners"
    assert 0 < len(plan.looks) <= MOST_LOOKS and all(a < b for a, b in pairwise(plan.looks)), (
        "there are looks, not too many, and they ascend"
    )
    rows = len(treated)
    limits = np.full(rows, plan.margin) if margin is None else np.asarray(margin, dtype=np.float64)
    others = control if own is None else own[1]
    assert np.all(limits > 0), "a margin is positive"
    result = _blank(rows, treated.shape[1], 0 if others is None else others.shape[1])
    if plan.design is Design.BEFORE_AFTER:
        result.verdict[:] = Verdict.INCONCLUSIVE
        return result
    history = History.blank(rows, len(plan.looks), 1 if control is None else 2)
    active = np.arange(rows)
    for k, (n, m) in enumerate(zip(plan.looks, plan.control_looks, strict=True)):
        closing = k == len(plan.looks) - 1
        arms = treated[active, :n], None if control is None else control[active, :m]
        partners = None if own is None else (own[0][active, :n], own[1][active, :n])
        sample = take(*arms, limits[active], partners)
        history.record(active, k, sample)
        question = Question(margin=limits[active], kappa=plan.kappa, final=final and closing)
        found = _ask(plan, question, sample, history.upto(active, k))
        barred = sample.constant if withhold is None else sample.constant | (withhold[active, k] & found.below_margin)
        verdict = _verdict(found, barred, question.final)
        decided = np.flatnonzero((verdict != Verdict.NEED_MORE_DATA) | closing)
        done = active[decided]
        result.verdict[done], result.look[done] = verdict[decided], k + 1
        result.blocks[done] = sum(0 if arm is None else arm.shape[1] for arm in arms)
        result.present[done], result.constant[done] = sample.present[decided], sample.constant[decided]
        result.sick[done, :n] = sample.sick[decided]
        if sample.sick_control is not None:
            result.sick_control[done, : sample.sick_control.shape[1]] = sample.sick_control[decided]
        if with_bounds:
            result.estimate[done], result.low[done], result.high[done] = found.interval(decided)
        active = np.delete(active, decided)
    return result


def _ask(plan: CellPlan, question: Question, sample: Sample, seen: tuple[Ints, Ints]) -> Found:
    if plan.method is Method.T_SEQUENCE:
        g = (plan.margin / plan.sigma) ** 2
        return ask_t(sample, question, g, (plan.revert.alpha, plan.promote.alpha))
    full = (plan.n_max,) if plan.design is not Design.TWO_ARMS else (plan.n_max, plan.n_max_control)
    return ask_ranks(sample, question, seen, (plan.revert, plan.promote), full)


def _verdict(found: Found, barred: Bools, final: bool) -> NDArray[np.int8]:
    waiting = Verdict.INCONCLUSIVE if final else Verdict.NEED_MORE_DATA
    verdict = np.full(len(barred), waiting, dtype=np.int8)
    verdict[found.above_kappa & ~found.below_margin] = Verdict.FAIL
    verdict[found.below_margin & found.above_zero] = Verdict.MARGINAL
    verdict[found.below_margin & ~found.above_zero] = Verdict.PASS
    verdict[barred] = waiting
    return verdict


def _blank(rows: int, blocks: int, controls: int) -> CellResults:
    return CellResults(
        verdict=np.full(rows, Verdict.NEED_MORE_DATA, dtype=np.int8),
        look=np.zeros(rows, dtype=np.int64),
        blocks=np.zeros(rows, dtype=np.int64),
        present=np.zeros(rows, dtype=np.int64),
        estimate=np.full(rows, np.nan),
        low=np.full(rows, -np.inf),
        high=np.full(rows, np.inf),
        sick=np.zeros((rows, blocks), dtype=np.bool_),
        sick_control=np.zeros((rows, controls), dtype=np.bool_),
        constant=np.zeros(rows, dtype=np.bool_),
    )

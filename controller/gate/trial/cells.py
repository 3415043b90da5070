"""The cells of a trial that need no design: whether runs end, and claimed savings; each with its sentence."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from controller.gate.evidence.seen import Outcome
from controller.gate.hosts.benefit import HostValues, implausible, judge_benefit
from controller.gate.statistics.completion import completion_p
from controller.gate.trial.blocks import RunCounts, is_new
from controller.gate.trial.model import Arm, Measurement, TrialMetric, TrialPlan
from controller.gate.verdict import Cell, ClaimState, MetricRole, Verdict
from controller.words import count_text

COMPLETION: Final = "completion"


def completion_cell(plan: TrialPlan, stratum: str, old: RunCounts, new: RunCounts, alpha: float) -> Cell:
    """Judge whether runs end: by Fisher's exact test at `alpha` when some did not on the new kernel."""
    ended_old, ended_new = old.total - old.missing, new.total - new.missing
    told = f"{new.bad} of {ended_new} runs did not end well on the new kernel, {old.bad} of {ended_old} on the old"
    waiting = Verdict.INCONCLUSIVE if plan.final else Verdict.NEED_MORE_DATA
    if not ended_new or not ended_old:
        verdict, told = waiting, f"no run on the {'old' if ended_new else 'new'} kernel"
    elif not new.bad:
        verdict = Verdict.PASS
        told = f"all {ended_new} runs on the new kernel ended well" + (
            f"; {old.bad} on the old did not" * bool(old.bad)
        )
    else:
        p = float(completion_p(old.bad, ended_old, new.bad, ended_new))
        told += f" (Fisher's exact test, p = {p:.2g})"
        if p <= alpha:
            verdict = Verdict.FAIL
        elif new.bad * ended_old > old.bad * ended_new:
            verdict, told = waiting, told + "; too few to hold it against the kernel, too many to promote"
        else:
            verdict = Verdict.PASS
    return Cell(
        stratum=stratum,
        metric=COMPLETION,
        role=MetricRole.CRITICAL,
        verdict=verdict,
        unit="",
        blocks=ended_new,
        sentence=f"{stratum} {COMPLETION}: {told}. {verdict.name}.",
    )


def claim_cell(plan: TrialPlan, metric: TrialMetric, stratum: str, runs: Sequence[Measurement]) -> Cell:
    """Judge a claimed saving on the treated hosts, by errors declared beforehand."""
    claim = metric.claim
    assert claim is not None, "only for metrics with a claim"
    sides: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    problem = ""
    sign = -1.0 if metric.higher_is_better else 1.0
    for one in runs:
        if one.arm is not Arm.TREATED or one.warmup or one.outcome is not Outcome.OK or one.value is None:
            continue
        if implausible(one.value, claim.sigma_run, math.inf):
            problem = f"{one.host} reports {one.value:g} {metric.unit}, which is no measurement"
            continue
        sides[one.host][is_new(plan.design, one)].append(sign * one.value)
    values = [
        HostValues(host=host, old=tuple(sorted(old)), new=tuple(sorted(new)), sigma_run=claim.sigma_run)
        for host, (old, new) in sorted(sides.items())
    ]
    found = judge_benefit(values, claim=claim.at_least, sigma_host=claim.sigma_host, confidence=claim.confidence)
    problem = problem or found.doubt
    if found.saving is None:
        problem = "no host has runs on both kernels"
    state = ClaimState.OPEN if problem else found.state
    waiting = Verdict.INCONCLUSIVE if plan.final else Verdict.NEED_MORE_DATA
    verdict = {ClaimState.CONFIRMED: Verdict.PASS, ClaimState.REFUTED: Verdict.FAIL}.get(state, waiting)
    if found.saving is None:
        told = f"no measured saving, claim ≥ {claim.at_least:g} {metric.unit}. OPEN because {problem}"
    else:
        saving = found.saving
        told = (
            f"saves {saving.estimate:.4g} {metric.unit} ({claim.confidence * 100:g} % interval {saving.low:.4g} … "
            f"{saving.high:.4g}, claim ≥ {claim.at_least:g}), {count_text(len(found.hosts), 'host')}. "
            f"{state.value.upper()}"
        )
        if state is ClaimState.OPEN:
            told += f" because {problem or 'the interval contains the claim'}"
    return Cell(
        stratum=stratum,
        metric=metric.name,
        role=metric.role,
        verdict=verdict,
        claim=state,
        estimate=found.saving.estimate if found.saving else None,
        low=found.saving.low if found.saving else None,
        high=found.saving.high if found.saving else None,
        bound=claim.at_least,
        unit=metric.unit,
        blocks=len(found.hosts),
        sentence=f"{stratum} {metric.name}: {told}.",
    )

"""How a wave is judged: by the gate, with everything measured up to it; the answer becomes an event."""

from collections.abc import Iterable, Mapping, Sequence

from controller.domain.attempt import Attempt
from controller.domain.events import JudgedCell, WaveJudged
from controller.domain.evidence import gate_plan, host_evidence
from controller.domain.journey import Role, Step
from controller.domain.judged import CRITICAL, judged_cell, told_cell
from controller.domain.measured import measurements, trial_metrics, unfit_hosts
from controller.domain.old_against_old import judge_old_against_old
from controller.domain.rollout import Rollout
from controller.gate.cells import Design
from controller.gate.judge import judge
from controller.gate.trial import TrialPlan
from controller.gate.trial_judge import judge_trial

_FAILED = frozenset({"FAIL", "FATAL"})
# What decides nothing is told from one run on.
_FEWEST_TOLD_RUNS = 1


def judge_wave(rollout: Rollout, attempts: Mapping[str, Attempt], now: float) -> WaveJudged:
    """Judge everything measured up to the open wave. All its runs are in, so what is open now holds the rollout."""
    reached = _reached(rollout, attempts)
    if rollout.policy.aa:
        return judge_old_against_old(rollout, reached, now)
    treated = [attempt for attempt in reached if attempt.role is not Role.CONTROL]
    decision = judge(gate_plan(rollout, treated), [host_evidence(rollout, one) for one in treated])
    return WaveJudged(
        at=now,
        wave=rollout.wave,
        decision=decision.action.value,
        sentence=decision.sentence,
        cells=(*(judged_cell(cell) for cell in decision.cells), *_told(rollout, treated)),
    )


def _reached(rollout: Rollout, attempts: Mapping[str, Attempt]) -> list[Attempt]:
    """Return the hosts whose measurements count: those of the waves so far whose stratum is not held.

    A stratum in which every rig failed stays in, with the hosts that failed: having no data is not a pass. Elsewhere
    hosts that ended before their kernel was measured are left out.
    """
    reached = [one for one in attempts.values() if one.wave <= rollout.wave and one.stratum not in rollout.held]
    measured = {one.stratum for one in reached if one.step is Step.DONE}
    return [one for one in reached if one.step is Step.DONE or one.stratum not in measured]


def failed_strata(rollout: Rollout, judged: WaveJudged) -> Mapping[str, str]:
    """Return the strata that a judgement ends, and why."""
    reverting = {claim.metric for claim in rollout.policy.claims if claim.on_refuted == "revert"}
    return {
        cell.stratum: cell.sentence
        for cell in judged.cells
        if (cell.role == CRITICAL and cell.verdict in _FAILED) or (cell.claim == "refuted" and cell.metric in reverting)
    }


def _told(rollout: Rollout, treated: Sequence[Attempt]) -> Iterable[JudgedCell]:
    """Yield the performance metrics: before and after alone decides nothing, and each cell says so."""
    strata = sorted({attempt.stratum for attempt in treated})
    for metric in trial_metrics(rollout.policy.margins):
        unfit = unfit_hosts(treated, metric.name)
        plan = TrialPlan(
            design=Design.BEFORE_AFTER,
            metrics=(metric,),
            strata=tuple(strata),
            runs=_FEWEST_TOLD_RUNS,
            quarantined=tuple(sorted(unfit)),
        )
        decision = judge_trial(plan, measurements(treated, metric.name))
        for cell in decision.cells:
            if cell.metric == metric.name:
                yield told_cell(
                    cell, {a.host: unfit[a.host] for a in treated if a.host in unfit and a.stratum == cell.stratum}
                )

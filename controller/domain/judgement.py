"""How a wave is judged: by the gate, with everything measured up to it; the answer becomes an event."""

from collections.abc import Iterable, Mapping, Sequence

from controller.domain.attempt import Attempt
from controller.domain.events import JudgedCell, WaveJudged
from controller.domain.evidence import gate_plan, host_evidence
from controller.domain.journey import Role
from controller.domain.judged import judged_cell, told_cell
from controller.domain.measured import measurements, trial_metrics, unfit_hosts
from controller.domain.old_against_old import judge_old_against_old
from controller.domain.rollout import Rollout
from controller.gate.cells import Design
from controller.gate.judge import judge
from controller.gate.trial import TrialPlan
from controller.gate.trial_judge import judge_trial

# What decides nothing is told from one run on.
_FEWEST_TOLD_RUNS = 1


def judge_wave(rollout: Rollout, attempts: Mapping[str, Attempt], now: float) -> WaveJudged:
    """Judge everything measured up to the open wave. All its runs are in, so what is open now holds the rollout."""
    reached = [attempt for attempt in attempts.values() if attempt.wave <= rollout.wave]
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

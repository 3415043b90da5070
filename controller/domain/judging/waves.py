"""How a wave is judged: by the gate, with everything measured up to it; the answer becomes an event."""

from collections.abc import Iterable, Mapping, Sequence

from controller.domain.judging.cells import CRITICAL, TOLD, judged_cell, trial_cell
from controller.domain.judging.comparison import Comparison, compare
from controller.domain.judging.confounders import voided
from controller.domain.judging.host_evidence import gate_plan, host_evidence
from controller.domain.judging.old_against_old import judge_old_against_old
from controller.domain.judging.runs import measurements, trial_metrics, unfit_hosts
from controller.domain.record.journey import Role, Step
from controller.domain.record.verdicts import JudgedCell, JudgedStratum, WaveJudged
from controller.domain.state.attempt import Attempt
from controller.domain.state.rollout import Rollout
from controller.gate.evidence.seen import GatePlan
from controller.gate.hosts.judge import GateDecision, decide, gravest, judge
from controller.gate.statistics.cells import Design
from controller.gate.trial.judge import judge_trial
from controller.gate.trial.model import TrialPlan
from controller.gate.verdict import Action, Verdict
from controller.words import are

_PASSED = (Verdict.PASS.name, Verdict.MARGINAL.name)
_FAILED = (Verdict.FAIL.name, Verdict.FATAL.name)
# What decides nothing is told from one run on.
_FEWEST_TOLD_RUNS = 1
# A sentence names so many hosts and counts the others.
_NAMED = 5


def judge_wave(rollout: Rollout, attempts: Mapping[str, Attempt], now: float) -> WaveJudged:
    """Judge everything measured up to the open wave. All its runs are in, so what is open now holds the rollout.

    Only a design's looks may end undecided before its last wave. Hosts far outside the others are measured once more
    before anything is decided.
    """
    reached = _reached(rollout, attempts)
    if rollout.policy.aa:
        return judge_old_against_old(rollout, reached, now)
    treated = [attempt for attempt in reached if attempt.role is not Role.CONTROL]
    plan = gate_plan(rollout, treated)
    decision = judge(plan, [host_evidence(rollout, one) for one in treated])
    compared = compare(rollout, reached)
    cells = (
        *(judged_cell(cell) for cell in decision.cells),
        *(_told(rollout, treated) if compared is None else compared.cells),
    )
    strata = _strata(plan, decision, compared)
    action, sentence = _overall(plan, decision, compared, strata)
    again = () if compared is None or action is Action.REVERT else compared.sick.rerun
    return WaveJudged(
        at=now,
        wave=rollout.wave,
        decision="measure_again" if again else action.value,
        sentence=_again_text(again) if again else sentence,
        cells=cells,
        strata=tuple(
            JudgedStratum(stratum=name, decision=asked.value, sentence=why) for name, (asked, why) in strata.items()
        ),
        measure_again=again,
        quarantined=() if compared is None else compared.sick.quarantined,
        remarks=() if compared is None else compared.remarks,
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
    if judged.strata:
        return {one.stratum: one.sentence for one in judged.strata if one.decision == Action.REVERT.value}
    reverting = {claim.metric for claim in rollout.policy.claims if claim.on_refuted == "revert"}
    return {
        cell.stratum: cell.sentence
        for cell in judged.cells
        if (cell.role == CRITICAL and cell.verdict in _FAILED and not cell.claim)
        or (cell.claim == "refuted" and cell.metric in reverting)
    }


def _strata(plan: GatePlan, decision: GateDecision, compared: Comparison | None) -> Mapping[str, tuple[Action, str]]:
    """Return what every stratum asks for: by survival and claims, and by what is compared."""
    found = {}
    for stratum in sorted({cell.stratum for cell in decision.cells}):
        action, _, sentence = decide(plan, [cell for cell in decision.cells if cell.stratum == stratum])
        asked = action, sentence.removeprefix(f"{action.value.upper()}: ")
        other = None if compared is None else compared.strata.get(stratum)
        # What both ask for alike is told by what a host shows, not by what hosts show together.
        found[stratum] = other if other is not None and gravest((asked[0], other[0])) is not asked[0] else asked
    return found


def _overall(
    plan: GatePlan,
    decision: GateDecision,
    compared: Comparison | None,
    strata: Mapping[str, tuple[Action, str]],
) -> tuple[Action, str]:
    action = gravest([decision.action, *(asked for asked, _ in strata.values())])
    if action is decision.action:
        return action, decision.sentence if action is not Action.PROMOTE else _promoted(decision.sentence, compared)
    why = next(sentence for asked, sentence in strata.values() if asked is action)
    return action, f"{action.value.upper()}: {why}"


def _promoted(sentence: str, compared: Comparison | None) -> str:
    """Return why the rollout goes on, with how much of its performance is known by now."""
    if compared is None:
        return sentence
    deciding = [cell for cell in compared.cells if cell.role == CRITICAL]
    passed = sum(cell.verdict in _PASSED for cell in deciding)
    told = f"{sentence} {passed} of {len(deciding)} performance cells pass"
    return f"{told}." if passed == len(deciding) else f"{told}; the others wait for the next wave."


def _again_text(hosts: Sequence[str]) -> str:
    others = f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else ""
    which, verb = ", ".join(hosts[:_NAMED]) + others, are(len(hosts))
    return f"{which} {verb} far outside the others and {verb} measured once more before anything is decided."


def _told(rollout: Rollout, treated: Sequence[Attempt]) -> Iterable[JudgedCell]:
    """Yield the performance metrics: before and after alone decides nothing, and each cell says so."""
    strata = sorted({attempt.stratum for attempt in treated})
    void = voided(rollout, treated)
    for metric in trial_metrics(rollout.policy.margins):
        unfit = {**unfit_hosts(treated, metric.name), **void}
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
                own = {a.host: unfit[a.host] for a in treated if a.host in unfit and a.stratum == cell.stratum}
                yield trial_cell(cell, own, TOLD)

"""How an A/A rollout is judged: every host kept its kernel, so whatever the gate calls worse is a mistake of the gate.

The hosts of a stratum are dealt at random, by the rollout's id, into two arms that differ in nothing. Nothing here
decides over the rollout; the ledger counts how often a cell failed, and what the hosts' changes were.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from controller.domain.judging.cells import TOLD, judged_cell, trial_cell
from controller.domain.judging.host_evidence import host_evidence
from controller.domain.judging.runs import measurements, trial_metrics, unfit_hosts
from controller.domain.record.verdicts import JudgedCell, WaveJudged
from controller.domain.state.attempt import Attempt
from controller.domain.state.rollout import Rollout
from controller.gate.hosts.claims import STEADY_CONFIDENCE, steady_cell
from controller.gate.ledger import Judgement
from controller.gate.metrics import METRICS
from controller.gate.statistics.cells import ALPHA_REVERT, Design
from controller.gate.trial.judge import judge_trial
from controller.gate.trial.model import Arm, TrialPlan
from controller.gate.verdict import Cell, Verdict

_DECIDED = (Verdict.PASS.name, Verdict.MARGINAL.name, Verdict.FAIL.name)


def judge_old_against_old(rollout: Rollout, attempts: Sequence[Attempt], now: float) -> WaveJudged:
    """Judge an A/A wave: its hosts live; after the last wave also every cell, in one look at all hosts."""
    strata = {name: [one for one in attempts if one.stratum == name] for name in sorted({a.stratum for a in attempts})}
    cells = [judged_cell(_survival(name, members)) for name, members in strata.items()]
    told: list[JudgedCell] = []
    if rollout.wave + 1 == len(rollout.waves):
        for name, members in strata.items():
            told += [*_steady(rollout, name, members), *_performance(rollout, name, members)]
    return WaveJudged(
        at=now,
        wave=rollout.wave,
        decision="promote",
        sentence=_sentence(len(attempts), told),
        cells=(*cells, *told),
    )


def judgements(rollout: Rollout, event: WaveJudged) -> tuple[Judgement, ...]:
    """Return what a judged A/A wave tells of the gate's own errors.

    An undecided cell that had bounds was judged, too, and did not fail; one with too few hosts tells nothing.
    """
    if not rollout.policy.aa:
        return ()
    return tuple(
        Judgement(
            stratum=cell.stratum,
            metric=cell.metric,
            rollout=rollout.uid,
            at=event.at,
            alpha=1 - STEADY_CONFIDENCE if cell.metric in METRICS else ALPHA_REVERT,
            failed=cell.verdict == Verdict.FAIL.name,
        )
        for cell in event.cells
        if cell.role == TOLD and _was_judged(cell)
    )


def _was_judged(cell: JudgedCell) -> bool:
    if cell.verdict in _DECIDED:
        return True
    # Bounds that meet are those of values that are all the same: no measurement.
    return cell.low is not None and cell.high is not None and cell.low < cell.high


def _survival(stratum: str, members: Sequence[Attempt]) -> Cell:
    lived = "1 host came back on the same kernel and was"
    if len(members) > 1:
        lived = f"{len(members)} hosts came back on the same kernel and were"
    return Cell(
        stratum=stratum,
        metric="survival",
        verdict=Verdict.PASS,
        blocks=len(members),
        sentence=f"{stratum} survival: {lived} measured on both boots. PASS.",
    )


def _steady(rollout: Rollout, stratum: str, members: Sequence[Attempt]) -> Iterable[JudgedCell]:
    """Yield the nearly deterministic metrics: by their declared errors nothing may have changed."""
    measured = {name for attempt in members for run in attempt.runs for name in run.values}
    evidence = [host_evidence(rollout, attempt) for attempt in sorted(members, key=lambda one: one.host)]
    repetitions = {task.workload: task.repetitions for task in rollout.policy.tasks}
    for name in sorted(measured & METRICS.keys()):
        metric = METRICS[name]
        sigma_host = rollout.policy.sigma_host.get(name, {}).get(stratum, metric.sigma_host)
        needed = repetitions.get(metric.workload, 1)
        yield judged_cell(steady_cell(metric, stratum, evidence, repetitions=needed, sigma_host=sigma_host), TOLD)


def _performance(rollout: Rollout, stratum: str, members: Sequence[Attempt]) -> Iterable[JudgedCell]:
    # Dealt anew in every rollout: the salt is the same for every rollout of a file.
    arms = sham_arms([attempt.host for attempt in members], rollout.uid)
    for metric in trial_metrics(rollout.policy.margins):
        unfit = unfit_hosts(members, metric.name)
        plan = TrialPlan(design=Design.TWO_ARMS, metrics=(metric,), strata=(stratum,), quarantined=tuple(sorted(unfit)))
        decision = judge_trial(plan, measurements(members, metric.name, arms))
        yield from (trial_cell(cell, unfit, TOLD) for cell in decision.cells if cell.metric == metric.name)


def sham_arms(hosts: Sequence[str], seed: str) -> Mapping[str, Arm]:
    """Deal hosts into two arms of the same size (an odd one is treated), by a hash over seed and name."""

    def place(host: str) -> tuple[bytes, str]:
        return hashlib.sha256(f"{seed}\0arm\0{host}".encode()).digest(), host

    ordered = sorted(hosts, key=place)
    return {host: Arm.CONTROL if index % 2 else Arm.TREATED for index, host in enumerate(ordered)}


def _sentence(hosts: int, told: Sequence[JudgedCell]) -> str:
    lived = f"old against old: {hosts} host{'' if hosts == 1 else 's'} came back on the same kernel"
    if not told:
        return f"{lived}."
    failed = [f"{cell.stratum} {cell.metric}" for cell in told if cell.verdict == Verdict.FAIL.name]
    decided = sum(cell.verdict in _DECIDED for cell in told)
    wrong = f", called worse by mistake: {', '.join(failed)}" if failed else ", none called worse"
    return f"{lived}; {decided} of {len(told)} cells could be judged{wrong}."

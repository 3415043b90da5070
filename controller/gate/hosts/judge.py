"""The judgement of a rollout's evidence: every cell gets a verdict, and the rollout one action with one sentence.

Survival is judged per stratum first (fatal log lines, lost hosts, runs that died), then every claim per stratum. Raw
values are never pooled over strata, and nothing that is missing counts as passed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controller.gate.evidence.seen import ClaimPlan, GatePlan, HostEvidence
from controller.gate.hosts.claims import FleetTotal, claim_cell, fleet_totals
from controller.gate.hosts.survival import rerun_hosts, survival_cell
from controller.gate.verdict import Action, Cell, ClaimState, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """What the evidence asks for."""

    action: Action
    # The worst of the cells.
    verdict: Verdict
    # The one reason, naming host and signal where there is one.
    sentence: str
    # By stratum, survival before claims.
    cells: tuple[Cell, ...]
    # Hosts whose runs died once: measure them again before anything is held against the kernel.
    rerun: tuple[str, ...]
    fleet: tuple[FleetTotal, ...]
    # Observations that decide nothing, such as a measurement that the structure sizes do not explain.
    remarks: tuple[str, ...]


def judge(plan: GatePlan, evidence: Sequence[HostEvidence]) -> GateDecision:
    """Judge the evidence against the plan. The order of hosts and runs changes nothing."""
    assert len({one.host for one in evidence}) == len(evidence), "one host, one piece of evidence"
    by_stratum: dict[str, list[HostEvidence]] = defaultdict(list)
    for one in sorted(evidence, key=lambda one: (one.stratum, one.host)):
        by_stratum[one.stratum].append(one)
    cells: list[Cell] = []
    remarks: list[str] = []
    for stratum in sorted({*plan.required_hosts, *by_stratum}):
        members = by_stratum.get(stratum, [])
        cells.append(survival_cell(plan, stratum, members))
        for claim in sorted(plan.claims, key=lambda claim: claim.metric):
            cell, told = claim_cell(plan, claim, stratum, members)
            cells.append(cell)
            remarks += told
    action, verdict, sentence = decide(plan, cells)
    return GateDecision(
        action=action,
        verdict=verdict,
        sentence=sentence,
        cells=tuple(cells),
        rerun=rerun_hosts(evidence),
        fleet=fleet_totals(plan, evidence) if verdict is not Verdict.FATAL else (),
        remarks=tuple(remarks),
    )


def decide(plan: GatePlan, cells: Sequence[Cell]) -> tuple[Action, Verdict, str]:
    """Return what these cells ask for, the worst of their verdicts, and the one reason."""
    if not cells:
        return Action.HOLD, Verdict.INCONCLUSIVE, "HOLD: there is no host to judge."
    worst = max(cells, key=lambda cell: cell.verdict)
    action = gravest(_action(plan.claims, cell) for cell in cells)
    if action is Action.PROMOTE:
        confirmed = sum(cell.claim is ClaimState.CONFIRMED for cell in cells)
        strata = len({cell.stratum for cell in cells})
        claims = f"{confirmed} of {confirmed} claims confirmed" if confirmed else "no claim was made"
        return (
            action,
            worst.verdict,
            f"PROMOTE: every host lives and {claims}, in {_count(strata, 'stratum', 'strata')}.",
        )
    # Of the cells that ask for this action the gravest is the reason.
    reason = max((cell for cell in cells if _action(plan.claims, cell) is action), key=lambda cell: cell.verdict)
    return action, worst.verdict, f"{action.value.upper()}: {reason.sentence}"


_WEIGHT: Mapping[Action, int] = {Action.PROMOTE: 0, Action.HOLD: 1, Action.REVERT: 2}


def gravest(actions: Iterable[Action]) -> Action:
    """Return the action that overrules the others."""
    return max(actions, key=_WEIGHT.__getitem__)


def _action(claims: Sequence[ClaimPlan], cell: Cell) -> Action:
    if cell.verdict is Verdict.FATAL:
        return Action.REVERT
    if cell.verdict is Verdict.FAIL:
        if cell.claim is None:
            return Action.REVERT
        claim = next(claim for claim in claims if claim.metric == cell.metric)
        return claim.on_refuted
    return Action.PROMOTE if cell.verdict <= Verdict.MARGINAL else Action.HOLD


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"

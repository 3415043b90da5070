"""How a rollout with a design is judged on performance: everybody who is compared, in the looks that its waves fix."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from controller.domain.judging.cells import trial_cell
from controller.domain.judging.confounders import voided
from controller.domain.judging.runs import compared_runs, decided_metrics, unfit_hosts
from controller.domain.planning.design import calendars
from controller.domain.record.journey import Role
from controller.domain.record.verdicts import JudgedCell
from controller.domain.spec.margins import GATE_DESIGNS
from controller.domain.state.attempt import Attempt
from controller.domain.state.rollout import Rollout
from controller.gate.precautions import SickList, sick_list
from controller.gate.statistics.cells import Design
from controller.gate.trial.judge import judge_trial
from controller.gate.trial.model import StratumVerdict, TrialPlan
from controller.gate.verdict import Action, Cell, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the compared hosts show."""

    # Stratum -> what it asks for, and why.
    strata: Mapping[str, tuple[Action, str]]
    cells: tuple[JudgedCell, ...]
    # What is to be done about hosts far outside the others.
    sick: SickList
    # Observations that decide nothing.
    remarks: tuple[str, ...]


def compare(rollout: Rollout, reached: Sequence[Attempt]) -> Comparison | None:
    """Judge the performance metrics of the waves so far; None without a design. `reached` are their hosts."""
    design = GATE_DESIGNS[rollout.policy.design]
    if design is Design.BEFORE_AFTER or not rollout.policy.margins:
        return None
    compared = sorted((one for one in reached if one.compared), key=lambda one: (one.stratum, one.host))
    strata = sorted({one.stratum for one in reached})
    plan = _plan(rollout, design, strata)
    void = voided(rollout, compared)
    metrics = {metric.name: {**unfit_hosts(compared, metric.name), **void} for metric in plan.metrics}
    runs = [
        run
        for name, unfit in metrics.items()
        for run in compared_runs((one for one in compared if one.host not in unfit), name)
    ]
    left_out = sorted({host for event in rollout.judged for host in event.quarantined} & {a.host for a in compared})
    decision = judge_trial(_without(plan, left_out), runs)
    # The cycles of one host cannot be measured again one by one.
    named = () if design is Design.ABBA else [name for cell in decision.cells for name in cell.sick]
    again = {host for event in rollout.judged for host in event.measure_again}
    sick = sick_list(named, again)
    if sick.quarantined:
        left_out = sorted({*left_out, *sick.quarantined})
        decision = judge_trial(_without(plan, left_out), runs)
    warnings = dict(decision.warnings)
    return Comparison(
        strata={one.stratum: _asked(one, warnings.get(one.stratum, ""), final=plan.final) for one in decision.strata},
        cells=tuple(_recorded(cell, metrics, compared) for cell in decision.cells),
        sick=SickList(rerun=sick.rerun, quarantined=tuple(left_out)),
        remarks=decision.remarks,
    )


def _asked(one: StratumVerdict, warning: str, *, final: bool) -> tuple[Action, str]:
    """Return what a stratum asks for: a look that is not the last may end undecided, and the next wave tells more."""
    if one.verdict >= Verdict.FAIL:
        return Action.REVERT, one.sentence
    if warning:
        return Action.HOLD, warning
    undecided = one.verdict is Verdict.INCONCLUSIVE or (one.verdict is Verdict.NEED_MORE_DATA and final)
    return Action.HOLD if undecided else Action.PROMOTE, one.sentence


def _recorded(cell: Cell, metrics: Mapping[str, Mapping[str, str]], compared: Sequence[Attempt]) -> JudgedCell:
    own = [one for one in compared if one.stratum == cell.stratum]
    unfit = metrics.get(cell.metric)
    if unfit is None:
        # Whether runs end is asked of all of them: the cell counts runs.
        return replace(trial_cell(cell, {}), hosts=sum(one.role is not Role.CONTROL for one in own))
    return trial_cell(cell, {one.host: unfit[one.host] for one in own if one.host in unfit})


def _without(plan: TrialPlan, hosts: Sequence[str]) -> TrialPlan:
    return replace(plan, quarantined=tuple(hosts))


def _plan(rollout: Rollout, design: Design, strata: Sequence[str]) -> TrialPlan:
    policy = rollout.policy
    whole = calendars(policy.design, rollout.waves, policy.contrast_sigmas)
    own = tuple(one for one in whole if one.stratum in strata)
    last = max((one.until[-1] for one in own), default=0.0)
    return TrialPlan(
        design=design,
        metrics=decided_metrics(policy.margins),
        strata=tuple(one.stratum for one in own),
        calendars=own,
        due=float(rollout.wave),
        suspended={(cell.stratum, cell.metric): cell.why for cell in policy.suspended},
        # A stratum that is held leaves its share of the error unused: the promise was made for all of them.
        family_strata=len(whole),
        final=last <= rollout.wave,
    )

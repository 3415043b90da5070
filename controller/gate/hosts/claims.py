"""Claims per stratum: from runs to values, from values to a verdict with its sentence, and the fleet's total."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from controller.gate.evidence.seen import ClaimPlan, GatePlan, HostEvidence, Outcome, Run, Side
from controller.gate.evidence.swap_formula import compare
from controller.gate.hosts.benefit import Benefit, HostValues, Saving, fleet_total, implausible, judge_benefit
from controller.gate.hosts.survival import unresolved
from controller.gate.metrics import METRICS, Metric
from controller.gate.verdict import Cell, ClaimState, Verdict
from controller.words import count_text

# The claimed metric that the structure sizes explain.
_EXPLAINED: Final = "swap_mount.cost"
# Old against old: two-sided, so that one cell in a hundred is called changed by mistake.
STEADY_CONFIDENCE: Final = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetTotal:
    """A claimed saving added up over the hosts' swap."""

    metric: str
    saving: Saving
    # Without the "per TiB".
    unit: str
    swap_tib: float
    hosts: int
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """One host's values of one metric, and why some were refused."""

    values: HostValues
    problem: str


def claim_cell(plan: GatePlan, claim: ClaimPlan, stratum: str, hosts: Sequence[HostEvidence]) -> tuple[Cell, list[str]]:
    """Judge one claim in one stratum; `hosts` sorted by name. Also returns remarks that decide nothing."""
    metric = METRICS[claim.metric]
    measured = [_measure(metric, claim, host) for host in hosts]
    benefit = _benefit(metric, claim, stratum, [one.values for one in measured])
    required = max(1, plan.required_hosts.get(stratum, 1))
    problem = next((one.problem for one in measured if one.problem), "")
    problem = problem or _shortage(required, plan.repetitions.get(metric.workload, 1), measured)
    if why := plan.suspended.get((stratum, metric.name)):
        problem = f"the cell is suspended: {why}"
    state = ClaimState.OPEN if problem else benefit.state
    if state is ClaimState.CONFIRMED:
        verdict = Verdict.PASS
    elif state is ClaimState.REFUTED:
        verdict = Verdict.FAIL
    else:
        verdict = Verdict.NEED_MORE_DATA if problem and not plan.final else Verdict.INCONCLUSIVE
    saving = benefit.saving
    cell = Cell(
        stratum=stratum,
        metric=metric.name,
        verdict=verdict,
        claim=state,
        estimate=saving.estimate if saving else None,
        low=saving.low if saving else None,
        high=saving.high if saving else None,
        bound=claim.at_least,
        blocks=len(benefit.hosts),
        unit=metric.unit,
        sentence=f"{stratum} {metric.name}: {_told(metric, claim, benefit, problem or benefit.doubt, state)}",
    )
    return cell, list(_explanations(metric, hosts, measured))


def host_savings(claim: ClaimPlan, hosts: Iterable[HostEvidence]) -> Mapping[str, Saving]:
    """Return each host's own saving; hosts without a usable run on both sides are left out."""
    metric = METRICS[claim.metric]
    found: dict[str, Saving] = {}
    for stratum, members in groupby(sorted(hosts, key=_stratum), key=_stratum):
        values = [_measure(metric, claim, host).values for host in members]
        found.update(_benefit(metric, claim, stratum, values).hosts)
    return found


def steady_cell(
    metric: Metric, stratum: str, hosts: Sequence[HostEvidence], *, repetitions: int, sigma_host: float
) -> Cell:
    """Judge old against old: by the errors that claims are judged by, no saving may be seen, on either side.

    `hosts` sorted by name; `sigma_host` in the metric's unit.
    """
    nothing = ClaimPlan(
        metric=metric.name, at_least=0.0, confidence=STEADY_CONFIDENCE, sigma_host=((stratum, sigma_host),)
    )
    measured = [_measure(metric, nothing, host) for host in hosts]
    benefit = _benefit(metric, nothing, stratum, [one.values for one in measured])
    problem = next((one.problem for one in measured if one.problem), "")
    problem = problem or _shortage(len(hosts), repetitions, measured) or benefit.doubt
    saving = benefit.saving
    if problem or saving is None:
        verdict = Verdict.INCONCLUSIVE
    else:
        verdict = Verdict.PASS if saving.low <= 0 <= saving.high else Verdict.FAIL
    told = "not measured"
    if saving is not None:
        told = (
            f"old against old changed by {0.0 - saving.estimate:+.1f} {metric.unit} ({_percent(nothing)} interval "
            f"{-saving.high:+.1f} … {-saving.low:+.1f}), {count_text(len(benefit.hosts), 'host')}"
        )
    because = f" because {problem}" if problem else ""
    return Cell(
        stratum=stratum,
        metric=metric.name,
        verdict=verdict,
        # Of the change: more is worse.
        estimate=0.0 - saving.estimate if saving else None,
        low=-saving.high if saving else None,
        high=-saving.low if saving else None,
        bound=0.0,
        blocks=len(benefit.hosts),
        unit=metric.unit,
        sentence=f"{stratum} {metric.name}: {told}. {verdict.name}{because}.",
    )


def fleet_totals(plan: GatePlan, evidence: Sequence[HostEvidence]) -> tuple[FleetTotal, ...]:
    """Return for every claim that asks for it what the measured hosts save together, by their swap."""
    totals = []
    for claim in sorted(plan.claims, key=lambda claim: claim.metric):
        metric = METRICS[claim.metric]
        if not claim.extrapolate or not metric.unit.endswith("/TiB"):
            continue
        savings = host_savings(claim, evidence)
        parts = [(savings[host.host], _swap_tib(host)) for host in evidence if host.host in savings]
        saving = fleet_total(parts, claim.confidence)
        if saving is None:
            continue
        unit = metric.unit.removesuffix("/TiB")
        tib = math.fsum(size for _, size in parts)
        sentence = (
            f"Fleet, {metric.name}: {len(parts)} measured hosts with {tib:g} TiB of swap save "
            f"{saving.estimate:.1f} {unit} ({_percent(claim)} interval {saving.low:.1f} … {saving.high:.1f})."
        )
        totals.append(
            FleetTotal(metric=metric.name, saving=saving, unit=unit, swap_tib=tib, hosts=len(parts), sentence=sentence)
        )
    return tuple(totals)


def _stratum(host: HostEvidence) -> str:
    return host.stratum


def _benefit(metric: Metric, claim: ClaimPlan, stratum: str, values: Sequence[HostValues]) -> Benefit:
    sigma_host = dict(claim.sigma_host).get(stratum, metric.sigma_host)
    return judge_benefit(values, claim=claim.at_least, sigma_host=sigma_host, confidence=claim.confidence)


def _swap_tib(host: HostEvidence) -> float:
    """Return the host's swap in TiB: in production if known, else the measured device."""
    sizes = (size for size in (host.swap_tib, host.device_tib) if size is not None and math.isfinite(size) and size > 0)
    return next(sizes, 1.0)


def _measure(metric: Metric, claim: ClaimPlan, host: HostEvidence) -> _Measured:
    """Pick the metric's usable values of both sides; what cannot be used is named, never dropped in silence."""
    sigma = metric.sigma_run if claim.sigma_run is None else claim.sigma_run
    if host.device_tib is not None and host.device_tib > 0:
        # The same few MiB of noise are divided by the device's size.
        sigma /= host.device_tib
    problems: list[str] = []
    sides: dict[Side, tuple[float, ...]] = {}
    for side in Side:
        values, problem = _values(metric, host.runs, side, sigma)
        sides[side] = values
        if problem:
            problems.append(problem)
        if bad := unresolved(host, side):
            problems.append(f"{len(bad)} runs on the {side.value} kernel did not end well")
    return _Measured(
        values=HostValues(host=host.host, old=sides[Side.OLD], new=sides[Side.NEW], sigma_run=sigma),
        problem=f"{host.host}: {problems[0]}" if problems else "",
    )


def _values(metric: Metric, runs: Sequence[Run], side: Side, sigma: float) -> tuple[tuple[float, ...], str]:
    seen: dict[str, float] = {}
    problem = ""
    # The smallest value of contradicting duplicates is kept, so that the order of the runs does not matter.
    for run in sorted(runs, key=lambda run: (run.run_id, run.attempt, str(run.values.get(metric.name)))):
        value = run.values.get(metric.name)
        if run.side is not side or run.outcome is not Outcome.OK or value is None:
            continue
        if implausible(value, sigma, metric.maximum):
            problem = f"run {run.run_id} reports {value:g} {metric.unit}, which is no measurement"
            continue
        if run.run_id in seen and seen[run.run_id] != value:
            problem = f"run {run.run_id} was reported with different values"
        seen[run.run_id] = min(value, seen.get(run.run_id, value))
    return tuple(sorted(seen.values())), problem


def _shortage(required: int, repetitions: int, measured: Sequence[_Measured]) -> str:
    """Return what is missing for a decision; empty when enough is there."""
    complete = 0
    for one in measured:
        fewest = min(len(one.values.old), len(one.values.new))
        complete += fewest >= repetitions
    if complete >= required:
        return ""
    return f"{complete} of {required} hosts have {repetitions} runs on both kernels"


def _told(metric: Metric, claim: ClaimPlan, benefit: Benefit, problem: str, state: ClaimState) -> str:
    claimed = f"claim ≥ {claim.at_least:g}"
    if benefit.saving is None:
        return f"no measured saving, {claimed} {metric.unit}. OPEN because {problem}."
    if state is ClaimState.OPEN:
        problem = problem or "the interval contains the claim"
    saving = benefit.saving
    hosts = count_text(len(benefit.hosts), "host")
    return (
        f"saves {saving.estimate:.1f} {metric.unit} ({_percent(claim)} interval {saving.low:.1f} … "
        f"{saving.high:.1f}, {claimed}), {hosts}, {benefit.old_runs} + {benefit.new_runs} runs. "
        f"{state.value.upper()}{f' because {problem}' if problem else ''}."
    )


def _percent(claim: ClaimPlan) -> str:
    return f"{claim.confidence * 100:g} %"


def _explanations(metric: Metric, hosts: Sequence[HostEvidence], measured: Sequence[_Measured]) -> Iterable[str]:
    """Set the measured costs against the structure sizes, once per kernel and page size."""
    if metric.name != _EXPLAINED:
        return
    costs: dict[tuple[str, int], list[float]] = defaultdict(list)
    for host, one in zip(hosts, measured, strict=True):
        for release, values in ((host.old_release, one.values.old), (host.new_release, one.values.new)):
            if release and values:
                costs[release, host.page_size_bytes] += values
    for (release, page_size), found in sorted(costs.items()):
        if sentence := compare(release, page_size, math.fsum(found) / len(found)):
            yield f"{hosts[0].stratum} {sentence}"

"""The report's contents, rebuilt from the event log, the attempts that follow from it, and the hosts' facts."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

from controller.domain.hosts.host import Host
from controller.domain.judging.host_evidence import gate_plan, host_evidence
from controller.domain.record.events import Event, Moved, RolloutPlanned
from controller.domain.record.journey import Role, Side, Step, Trigger
from controller.domain.record.names import key_of_stream
from controller.domain.state.attempt import Attempt
from controller.domain.state.rollout import Rollout
from controller.gate.evidence.seen import ClaimPlan, HostEvidence
from controller.gate.hosts.claims import claim_cell, fleet_totals, host_savings
from controller.gate.metrics import METRICS
from controller.views.models import Epoch
from controller.views.report.free import free_output
from controller.views.report.model import (
    SCHEMA,
    FailureResult,
    FleetResult,
    FreeTable,
    HostResult,
    Report,
    StratumCost,
)
from controller.views.report.performance import performance
from controller.views.report.runs import SWAPON_TIME, HostRuns, host_runs, outliers, typical
from controller.views.report.timeline import timeline
from controller.views.rollouts.checks import check_views
from controller.views.rollouts.confounders import confounder_lines
from controller.views.rollouts.power_cycles import with_power
from controller.views.rollouts.savings import claims_of, interval_view
from controller.views.rollouts.status import kernel_views, verdict_views, whole_failure
from controller.views.rollouts.waiting import reason_text

_BYTES_PER_TIB = 2**40


def rebuild(
    rollout: Rollout, attempts: Mapping[str, Attempt], events: Sequence[tuple[str, Event]], hosts: Mapping[str, Host]
) -> Report:
    """Return what the log shows. The same log and facts give the same report."""
    ordered = {name: attempts[name] for name in sorted(attempts)}
    runs = host_runs(ordered, events, aa=rollout.policy.aa)
    claim = claims_of(rollout)[0]
    evidence = _evidence(rollout, ordered, runs, hosts)
    plan = replace(gate_plan(rollout, []), claims=claims_of(rollout))
    planned = next((event for _, event in events if isinstance(event, RolloutPlanned)), None)
    return Report(
        schema=SCHEMA,
        rollout=rollout.name,
        state=rollout.state.value,
        reason=reason_text(rollout.reason),
        planned_by=planned.by if planned is not None else "",
        seed=rollout.salt,
        planned_at=Epoch(rollout.planned_at),
        started_at=None if rollout.started_at is None else Epoch(rollout.started_at),
        ended_at=None if rollout.ended_at is None else Epoch(rollout.ended_at),
        aa=rollout.policy.aa,
        kernels=kernel_views(rollout.kernels),
        confidence=claim.confidence,
        command_lines=tuple((name, kernel.command_line) for name, kernel in sorted(rollout.kernels.items())),
        free_tables=_free_tables(rollout, ordered, runs, claim),
        costs=_costs(rollout, ordered, runs, claim),
        performance=performance(ordered, runs, aa=rollout.policy.aa),
        verdicts=verdict_views(rollout),
        design=rollout.policy.design,
        quarantined=rollout.judged[-1].quarantined if rollout.judged else (),
        remarks=rollout.judged[-1].remarks if rollout.judged else (),
        fleet=tuple(
            FleetResult(
                metric=total.metric,
                saving=interval_view(total.saving),
                unit=total.unit,
                swap_tib=total.swap_tib,
                hosts=total.hosts,
                sentence=total.sentence,
            )
            for total in fleet_totals(plan, evidence)
        ),
        structure_sizes=tuple(
            remark
            for stratum, members in _by_stratum(evidence).items()
            for remark in claim_cell(plan, claim, stratum, members)[1]
        ),
        hosts=_hosts(rollout, ordered, runs, evidence, hosts),
        failures=_failures(rollout, ordered, events),
        lost=rollout.lost,
        timeline=timeline(rollout, events),
        checks=check_views(rollout),
        confounders=confounder_lines(rollout, ordered.values()),
    )


def _evidence(
    rollout: Rollout, attempts: Mapping[str, Attempt], runs: Mapping[str, HostRuns], hosts: Mapping[str, Host]
) -> list[HostEvidence]:
    """Return the evidence the gate had, with the sizes of the measured device and of the swap in production."""
    found: list[HostEvidence] = []
    for name, attempt in attempts.items():
        if attempt.role is Role.CONTROL:
            continue
        evidence = host_evidence(rollout, attempt)
        host = hosts.get(name)
        swap_tib = sum(device.size_bytes for device in host.swap_devices) / _BYTES_PER_TIB if host is not None else 0.0
        device_tib = evidence.device_tib or runs[name].device_tib
        found.append(replace(evidence, device_tib=device_tib, swap_tib=swap_tib or device_tib))
    return found


def _by_stratum(evidence: Sequence[HostEvidence]) -> dict[str, list[HostEvidence]]:
    strata = sorted({one.stratum for one in evidence})
    return {stratum: [one for one in evidence if one.stratum == stratum] for stratum in strata}


def _releases(rollout: Rollout, attempt: Attempt) -> tuple[str, str]:
    kernel = rollout.kernels.get(attempt.architecture)
    return attempt.old_release, kernel.release if kernel is not None else ""


def _free_tables(
    rollout: Rollout, attempts: Mapping[str, Attempt], runs: Mapping[str, HostRuns], claim: ClaimPlan
) -> tuple[FreeTable, ...]:
    """Return one table per stratum: its first host, by name, that measured both kernels."""
    tables: dict[str, FreeTable] = {}
    for name, attempt in attempts.items():
        if attempt.stratum in tables or attempt.role is Role.CONTROL:
            continue
        found = {side: typical(runs[name].good(side, claim.metric), claim.metric) for side in Side}
        old, new = found[Side.OLD], found[Side.NEW]
        if old is None or new is None:
            continue
        outputs = [
            free_output(run.evidence, run.values, moment) for run in (old, new) for moment in ("before", "after")
        ]
        first, second, third, fourth = outputs
        if first is None or second is None or third is None or fourth is None:
            continue
        old_release, new_release = _releases(rollout, attempt)
        tables[attempt.stratum] = FreeTable(
            stratum=attempt.stratum,
            host=name,
            device_tib=runs[name].device_tib or 1.0,
            old_release=old_release,
            new_release=new_release,
            old_before=first,
            old_after=second,
            new_before=third,
            new_after=fourth,
        )
    return tuple(tables[stratum] for stratum in sorted(tables))


def _costs(
    rollout: Rollout, attempts: Mapping[str, Attempt], runs: Mapping[str, HostRuns], claim: ClaimPlan
) -> tuple[StratumCost, ...]:
    metric = METRICS[claim.metric]
    costs: list[StratumCost] = []
    for stratum in sorted({attempt.stratum for attempt in attempts.values()}):
        members = [
            name
            for name, attempt in attempts.items()
            if attempt.stratum == stratum and attempt.role is not Role.CONTROL and _both(runs[name], metric.name)
        ]
        if not members:
            continue
        values = {side: [runs[name].values(side, metric.name) for name in members] for side in Side}
        swapon = {side: [t for name in members for t in runs[name].values(side, SWAPON_TIME)] for side in Side}
        old_release, new_release = _releases(rollout, attempts[members[0]])
        costs.append(
            StratumCost(
                stratum=stratum,
                metric=metric.name,
                unit=metric.unit,
                title=metric.title,
                hosts=len(members),
                old_runs=sum(map(len, values[Side.OLD])),
                new_runs=sum(map(len, values[Side.NEW])),
                old_release=old_release,
                new_release=new_release,
                old=_mean([_mean(one) for one in values[Side.OLD]]),
                new=_mean([_mean(one) for one in values[Side.NEW]]),
                old_swapon_s=median(swapon[Side.OLD]) if swapon[Side.OLD] else None,
                new_swapon_s=median(swapon[Side.NEW]) if swapon[Side.NEW] else None,
            )
        )
    return tuple(costs)


def _both(runs: HostRuns, metric: str) -> bool:
    return bool(runs.values(Side.OLD, metric) and runs.values(Side.NEW, metric))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _hosts(
    rollout: Rollout,
    attempts: Mapping[str, Attempt],
    runs: Mapping[str, HostRuns],
    evidence: Sequence[HostEvidence],
    hosts: Mapping[str, Host],
) -> tuple[HostResult, ...]:
    claim = claims_of(rollout)[0]
    metric = METRICS[claim.metric]
    savings = host_savings(claim, evidence)
    results: list[HostResult] = []
    for name, attempt in attempts.items():
        own, facts = runs[name], hosts.get(name)
        saving = savings.get(name)
        old_release, new_release = _releases(rollout, attempt)
        ended = Counter(run.state.value for side in Side for run in own.of(side) if not run.warmup)
        results.append(
            HostResult(
                host=name,
                stratum=attempt.stratum,
                role=attempt.role.value,
                wave=attempt.wave + 1,
                step=attempt.step.value,
                old_release=old_release,
                new_release=new_release,
                old_kernel_digest=attempt.old_kernel,
                boots=len(attempt.boot_ids),
                boot_ids=attempt.boot_ids,
                metric=metric.name,
                unit=metric.unit,
                old_values=own.values(Side.OLD, metric.name),
                new_values=own.values(Side.NEW, metric.name),
                saving=None if saving is None else interval_view(saving),
                old_swapon_s=own.median(Side.OLD, SWAPON_TIME),
                new_swapon_s=own.median(Side.NEW, SWAPON_TIME),
                runs=tuple(sorted(ended.items())),
                warmups=sum(run.warmup for side in Side for run in own.of(side)),
                outliers=tuple(outliers(own, metric)),
                platform=facts.platform if facts is not None else attempt.stratum.split("/")[1],
                page_size_bytes=facts.page_size_bytes if facts is not None else 0,
                memory_bytes=facts.memory_bytes if facts is not None else 0,
                cpu_count=facts.cpu_count if facts is not None else 0,
                kernel_command_line=facts.kernel_command_line if facts is not None else "",
                agent_version=facts.agent_version if facts is not None else "",
            )
        )
    return tuple(results)


def _failures(
    rollout: Rollout, attempts: Mapping[str, Attempt], events: Sequence[tuple[str, Event]]
) -> tuple[FailureResult, ...]:
    back_at: dict[str, float] = {}
    for stream, event in events:
        if isinstance(event, Moved):
            host = key_of_stream(stream).host
            if event.trigger is Trigger.AGAIN:
                # What its earlier round came to is in the timeline.
                back_at.pop(host, None)
            if event.step is Step.REVERTED:
                back_at[host] = event.at
    failures: list[FailureResult] = []
    for name, attempt in attempts.items():
        if attempt.failure is None:
            continue
        failure = whole_failure(attempt.failure, attempt)
        at, back = attempt.gone_since, back_at.get(name)
        failures.append(
            FailureResult(
                host=name,
                stratum=attempt.stratum,
                kind=failure.kind.value,
                sentence=with_power(failure.sentence, attempt),
                line=failure.line,
                condemns_kernel=attempt.condemned,
                failed_at=None if at is None else Epoch(at),
                back_after_s=back - at if at is not None and back is not None else None,
                step=attempt.step.value,
            )
        )
    return tuple(sorted(failures, key=lambda one: (one.host != rollout.cause_host, not one.condemns_kernel, one.host)))

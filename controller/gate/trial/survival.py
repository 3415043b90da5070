"""What a trial shows beside its numbers: hosts that did not come back, and kernel logs, by the rules of `survival`."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from controller.gate.evidence.log_rulings import LogRules
from controller.gate.evidence.seen import HostEvidence, Outcome
from controller.gate.hosts.survival import log_ruling
from controller.gate.kernel_log import Finding, read_log
from controller.gate.trial.blocks import is_new
from controller.gate.trial.model import Measurement, TrialPlan
from controller.gate.verdict import Cell, MetricRole

SURVIVAL: Final = "survival"


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """What hosts and logs show: stratum -> cell, where there is anything to rule, and what only is told."""

    cells: dict[str, Cell]
    remarks: tuple[str, ...]


def survival_cells(plan: TrialPlan, measurements: Iterable[Measurement]) -> Survival:
    """Judge lost hosts and kernel-log lines on the new kernel.

    FATAL on the first lost host, and on a fatal line that the old kernel does not write on as many hosts; a serious
    line that the old kernel does not write FAILs when a second host or boot confirms it, and holds until then; so does
    a log of the new kernel that could not be read. Everything brought is asked: quarantined hosts, runs that are
    missing, and runs of metrics that the plan does not name.
    """
    strata: dict[str, dict[str, list[Measurement]]] = defaultdict(lambda: defaultdict(list))
    for one in measurements:
        if one.kernel_log or one.outcome is Outcome.LOST:
            strata[one.stratum][one.host].append(one)
    rules = LogRules(known_lines=plan.known_lines, accept_missing_logs=plan.accept_missing_logs, final=plan.final)
    cells, remarks = {}, []
    for stratum, hosts in sorted(strata.items()):
        worst, logs = log_ruling(rules, [_evidence(plan, stratum, host, hosts[host]) for host in sorted(hosts)])
        if logs.remark:
            remarks.append(f"{stratum} {SURVIVAL}:{logs.remark}")
        if worst is None:
            continue
        cells[stratum] = Cell(
            stratum=stratum,
            metric=SURVIVAL,
            role=MetricRole.CRITICAL,
            verdict=worst.verdict,
            unit="",
            blocks=len(hosts),
            sentence=f"{stratum} {SURVIVAL}: {worst.sentence} {worst.verdict.name}.",
        )
    return Survival(cells=cells, remarks=tuple(remarks))


def _evidence(plan: TrialPlan, stratum: str, host: str, runs: Sequence[Measurement]) -> HostEvidence:
    lost = any(one.outcome is Outcome.LOST and is_new(plan.design, one) for one in runs)
    return HostEvidence(
        host=host,
        stratum=stratum,
        findings=_findings([one for one in runs if is_new(plan.design, one)]),
        old_findings=_findings([one for one in runs if not is_new(plan.design, one)]),
        lost="did not come back on the new kernel" if lost else "",
    )


def _findings(runs: Sequence[Measurement]) -> tuple[Finding, ...]:
    """Return what the logs show, each finding once a boot: every line of samples may bring the same log."""
    by_boot: dict[str, dict[str, Finding]] = defaultdict(dict)
    for boot, log in sorted({(one.boot, one.kernel_log) for one in runs if one.kernel_log}):
        for finding in read_log(log):
            by_boot[boot].setdefault(finding.signature, replace(finding, boot_id=boot))
    return tuple(by_boot[boot][signature] for boot in sorted(by_boot) for signature in sorted(by_boot[boot]))

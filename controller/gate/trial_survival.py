"""What a trial shows beside its numbers: hosts that did not come back, and kernel logs, by the rules of `survival`."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from controller.gate.evidence import HostEvidence, Outcome
from controller.gate.kernel_log import Finding, classify
from controller.gate.survival import log_ruling
from controller.gate.trial import Measurement, MetricRole, TrialCell, TrialPlan
from controller.gate.trial_blocks import is_new

SURVIVAL: Final = "survival"


def survival_cells(plan: TrialPlan, measurements: Iterable[Measurement]) -> dict[str, TrialCell]:
    """Judge lost hosts and kernel-log lines on the new kernel: stratum -> cell, where there are any.

    FATAL on the first fatal line or lost host; a serious line that the old kernel does not write FAILs when a second
    host or boot confirms it, and holds until then. Everything brought is asked: quarantined hosts, runs that are
    missing, and runs of metrics that the plan does not name.
    """
    strata: dict[str, dict[str, list[Measurement]]] = defaultdict(lambda: defaultdict(list))
    for one in measurements:
        if one.kernel_log or one.outcome is Outcome.LOST:
            strata[one.stratum][one.host].append(one)
    cells = {}
    for stratum, hosts in sorted(strata.items()):
        ruling = log_ruling([_evidence(plan, stratum, host, hosts[host]) for host in sorted(hosts)])
        if ruling is None:
            continue
        verdict, told = ruling
        cells[stratum] = TrialCell(
            stratum=stratum,
            metric=SURVIVAL,
            role=MetricRole.CRITICAL,
            verdict=verdict,
            unit="",
            blocks=len(hosts),
            sentence=f"{stratum} {SURVIVAL}: {told} {verdict.name}.",
        )
    return cells


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
    for boot, log in sorted({(one.boot, one.kernel_log) for one in runs}):
        for finding in classify(log):
            by_boot[boot].setdefault(finding.signature, replace(finding, boot_id=boot))
    return tuple(by_boot[boot][signature] for boot in sorted(by_boot) for signature in sorted(by_boot[boot]))

"""What a trial shows beside its numbers: hosts that did not come back, and kernel logs, by the rules of `survival`."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from controller.gate.evidence import HostEvidence, Outcome
from controller.gate.kernel_log import Finding, classify
from controller.gate.survival import log_ruling
from controller.gate.trial import Measurement, MetricRole, TrialCell, TrialPlan
from controller.gate.trial_blocks import is_new

SURVIVAL: Final = "survival"


def survival_cell(plan: TrialPlan, stratum: str, runs: Sequence[Measurement]) -> TrialCell | None:
    """Judge lost hosts and kernel-log lines on the new kernel; None when there are none, for logs may not be brought.

    FATAL on the first fatal line or lost host; a serious line that the old kernel does not write FAILs when a second
    host or boot confirms it, and holds until then.
    """
    hosts = sorted({one.host for one in runs})
    ruling = log_ruling([_evidence(plan, stratum, host, [one for one in runs if one.host == host]) for host in hosts])
    if ruling is None:
        return None
    verdict, told = ruling
    return TrialCell(
        stratum=stratum,
        metric=SURVIVAL,
        role=MetricRole.CRITICAL,
        verdict=verdict,
        unit="",
        blocks=len(hosts),
        sentence=f"{stratum} {SURVIVAL}: {told} {verdict.name}.",
    )


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
    for one in sorted(runs, key=lambda one: (one.boot, one.kernel_log)):
        for finding in classify(one.kernel_log):
            by_boot[one.boot].setdefault(finding.signature, replace(finding, boot_id=one.boot))
    return tuple(by_boot[boot][signature] for boot in sorted(by_boot) for signature in sorted(by_boot[boot]))

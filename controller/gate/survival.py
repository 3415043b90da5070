"""Did hosts and kernel live? Fatal log lines, lost hosts, runs that died and selftests that fail on the new kernel."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.gate.evidence import GatePlan, HostEvidence, Outcome, Run, Side
from controller.gate.kernel_log import Finding, Severity
from controller.gate.selftests import cases_that_pass, selftest_ruling
from controller.gate.verdict import CellVerdict, Verdict

# Ends of a run that are held against the kernel it ran on.
BAD_OUTCOMES = frozenset({Outcome.FAILED, Outcome.DIED, Outcome.TIMED_OUT, Outcome.LOST})
_BAD_WORDS = {
    Outcome.FAILED: "failed",
    Outcome.DIED: "died",
    Outcome.TIMED_OUT: "timed out",
    Outcome.LOST: "took the host with it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ruling:
    verdict: Verdict
    sentence: str


def survival_cell(plan: GatePlan, stratum: str, hosts: Sequence[HostEvidence]) -> CellVerdict:
    """Judge one stratum; `hosts` sorted by name. The gravest ruling speaks for it, the first host breaking ties."""
    rulings = [
        *_lost(hosts),
        *_fatal(hosts),
        *_serious(hosts),
        *_died(plan, hosts),
        *_selftests(plan, hosts),
        *_missing(plan, stratum, hosts),
    ]
    ran = sum(any(run.side is Side.NEW for run in host.runs) for host in hosts)
    if rulings:
        worst = max(rulings, key=lambda ruling: ruling.verdict)
        verdict, sentence = worst.verdict, worst.sentence
    else:
        verdict = Verdict.PASS
        passing = cases_that_pass(hosts)
        selftests = f", {passing} selftest cases pass as before" if passing else ""
        sentence = (
            f"{len(hosts)} of {len(hosts)} hosts live on the new kernel, no new fatal or serious log line{selftests}."
        )
    return CellVerdict(
        stratum=stratum,
        metric="survival",
        verdict=verdict,
        hosts=ran,
        sentence=f"{stratum} survival: {sentence} {verdict.name}.",
    )


def log_ruling(hosts: Sequence[HostEvidence]) -> tuple[Verdict, str] | None:
    """Return what lost hosts and kernel logs alone say of a stratum; None when nothing. `hosts` sorted by name."""
    rulings = [*_lost(hosts), *_fatal(hosts), *_serious(hosts)]
    if not rulings:
        return None
    worst = max(rulings, key=lambda ruling: ruling.verdict)
    return worst.verdict, worst.sentence


def rerun_hosts(evidence: Iterable[HostEvidence]) -> tuple[str, ...]:
    """Return the hosts with a run that died and was not repeated yet."""
    return tuple(
        sorted(
            host.host
            for host in evidence
            if not host.lost and (unresolved(host, Side.OLD) or unresolved(host, Side.NEW))
        )
    )


def unresolved(host: HostEvidence, side: Side) -> tuple[Run, ...]:
    """Return the bad runs that no later attempt at their workload made good, sorted by workload, attempt and id.

    An attempt makes earlier ones good when it has an OK run and no bad one.
    """
    attempts: dict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in host.runs:
        if run.side is side:
            attempts[run.workload, run.attempt].append(run)
    last_good: dict[str, int] = {}
    for (workload, number), runs in attempts.items():
        if any(run.outcome is Outcome.OK for run in runs) and not any(run.outcome in BAD_OUTCOMES for run in runs):
            last_good[workload] = max(number, last_good.get(workload, -1))
    # Sorted by everything that is told of a run, so that the order of reports does not matter; listed once per id.
    bad = {
        (run.workload, run.attempt, run.run_id): run
        for run in sorted(host.runs, key=lambda run: (run.outcome, run.error))
        if run.side is side and run.outcome in BAD_OUTCOMES and run.attempt > last_good.get(run.workload, -1)
    }
    return tuple(run for _, run in sorted(bad.items(), key=lambda item: item[0]))


def _lost(hosts: Sequence[HostEvidence]) -> Iterable[_Ruling]:
    for host in hosts:
        if host.lost:
            yield _Ruling(verdict=Verdict.FATAL, sentence=f"{host.host}: {host.lost.rstrip('.')}.")


def _fatal(hosts: Sequence[HostEvidence]) -> Iterable[_Ruling]:
    for host in hosts:
        before = {finding.signature for finding in host.old_findings}
        for finding in host.findings:
            if finding.severity is Severity.FATAL:
                also = " (the old kernel did so too)" if finding.signature in before else ""
                text = f'{host.host}: the kernel log of the new kernel says "{finding.line}"{also}.'
                yield _Ruling(verdict=Verdict.FATAL, sentence=text)


def _serious(hosts: Sequence[HostEvidence]) -> Iterable[_Ruling]:
    """A serious line that the old kernel does not write fails when a second host or boot confirms it."""
    old = {finding.signature for host in hosts for finding in host.old_findings}
    seen: dict[str, set[tuple[str, str]]] = defaultdict(set)
    first: dict[str, tuple[str, Finding]] = {}
    for host in hosts:
        for finding in host.findings:
            if finding.severity is Severity.SERIOUS and finding.signature not in old:
                seen[finding.signature].add((host.host, finding.boot_id))
                first.setdefault(finding.signature, (host.host, finding))
    for signature in sorted(seen):
        name, finding = first[signature]
        text = f'{name}: the kernel log of the new kernel says "{finding.line}", which the old kernel does not'
        if len(seen[signature]) > 1:
            text += f"; seen {len(seen[signature])} times on {len({host for host, _ in seen[signature]})} hosts."
            yield _Ruling(verdict=Verdict.FAIL, sentence=text)
        else:
            text += "; seen once, a second host or boot must confirm it."
            yield _Ruling(verdict=Verdict.INCONCLUSIVE, sentence=text)


def _died(plan: GatePlan, hosts: Sequence[HostEvidence]) -> Iterable[_Ruling]:
    """A run that died once is repeated; died again, or on a second host, it fails the kernel.

    When the same host cannot run it on the old kernel either, the kernel is not to blame, and nothing is decided.
    """
    undecided = Verdict.INCONCLUSIVE if plan.final else Verdict.NEED_MORE_DATA
    bad = {host.host: unresolved(host, Side.NEW) for host in hosts}
    suspects = [host for host in hosts if bad[host.host] and not unresolved(host, Side.OLD)]
    for host in hosts:
        runs = bad[host.host]
        if old := unresolved(host, Side.OLD):
            text = f"{host.host}: a run {_told(old[0])} on the old kernel; repeat it before anything is compared."
            yield _Ruling(verdict=undecided, sentence=text)
        elif runs:
            attempts = len({(run.workload, run.attempt) for run in runs if run.workload == runs[0].workload})
            repeated = attempts > 1 or len(suspects) > 1
            text = f"{host.host}: a run {_told(runs[0])} on the new kernel"
            if attempts > 1:
                text += f", and again when it was repeated ({len(runs)} runs in {attempts} attempts)."
            elif len(suspects) > 1:
                text += f", as on {len(suspects) - 1} other hosts." if len(suspects) > 2 else ", as on another host."
            else:
                text += "; it must be repeated."
            yield _Ruling(verdict=Verdict.FAIL if repeated else undecided, sentence=text)


def _selftests(plan: GatePlan, hosts: Sequence[HostEvidence]) -> Iterable[_Ruling]:
    if ruling := selftest_ruling(plan, hosts):
        yield _Ruling(verdict=ruling[0], sentence=ruling[1])


def _told(run: Run) -> str:
    return _BAD_WORDS[run.outcome] + (f" ({run.error.rstrip('.')})" if run.error else "")


def _missing(plan: GatePlan, stratum: str, hosts: Sequence[HostEvidence]) -> Iterable[_Ruling]:
    verdict = Verdict.INCONCLUSIVE if plan.final else Verdict.NEED_MORE_DATA
    for host in hosts:
        if host.broken_rig:
            yield _Ruling(
                verdict=verdict, sentence=f"{host.host} could not be measured: {host.broken_rig.rstrip('.')}."
            )
    required = max(1, plan.required_hosts.get(stratum, 1))
    alive = [host for host in hosts if any(run.side is Side.NEW and run.outcome is Outcome.OK for run in host.runs)]
    if len(alive) < required:
        without = [host.host for host in hosts if host not in alive]
        names = f" ({', '.join(without[:5])} without)" if without else ""
        text = f"{len(alive)} of {required} hosts have a complete run on the new kernel{names}."
        yield _Ruling(verdict=verdict, sentence=text)

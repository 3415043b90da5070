"""Did hosts and kernel live? Fatal log lines, lost hosts, runs that died and selftests that fail on the new kernel."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from controller.gate.evidence.log_rulings import LogRules, LogsRead, Ruling, read_logs
from controller.gate.evidence.seen import GatePlan, HostEvidence, Outcome, Run, Side
from controller.gate.evidence.selftests import cases_that_pass, selftest_ruling
from controller.gate.verdict import Cell, Verdict

# Ends of a run that are held against the kernel it ran on.
BAD_OUTCOMES = frozenset({Outcome.FAILED, Outcome.DIED, Outcome.TIMED_OUT, Outcome.LOST})
_BAD_WORDS = {
    Outcome.FAILED: "failed",
    Outcome.DIED: "died",
    Outcome.TIMED_OUT: "timed out",
    Outcome.LOST: "took the host with it",
}


def survival_cell(plan: GatePlan, stratum: str, hosts: Sequence[HostEvidence]) -> Cell:
    """Judge one stratum; `hosts` sorted by name. The gravest ruling speaks for it, the first host breaking ties."""
    logs = read_logs(
        LogRules(known_lines=plan.known_lines, accept_missing_logs=plan.accept_missing_logs, final=plan.final),
        hosts,
    )
    rulings = [
        *_lost(hosts),
        *logs.rulings,
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
    return Cell(
        stratum=stratum,
        metric="survival",
        verdict=verdict,
        blocks=ran,
        sentence=f"{stratum} survival: {sentence}{logs.remark} {verdict.name}.",
    )


def log_ruling(rules: LogRules, hosts: Sequence[HostEvidence]) -> tuple[Ruling | None, LogsRead]:
    """Return what lost hosts and kernel logs alone say of a stratum, None when nothing, and what the logs told.

    `hosts` sorted by name.
    """
    logs = read_logs(rules, hosts)
    return max([*_lost(hosts), *logs.rulings], key=lambda ruling: ruling.verdict, default=None), logs


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


def _lost(hosts: Sequence[HostEvidence]) -> Iterable[Ruling]:
    for host in hosts:
        if host.lost:
            yield Ruling(verdict=Verdict.FATAL, sentence=f"{host.host}: {host.lost.rstrip('.')}.")


def _died(plan: GatePlan, hosts: Sequence[HostEvidence]) -> Iterable[Ruling]:
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
            yield Ruling(verdict=undecided, sentence=text)
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
            yield Ruling(verdict=Verdict.FAIL if repeated else undecided, sentence=text)


def _selftests(plan: GatePlan, hosts: Sequence[HostEvidence]) -> Iterable[Ruling]:
    if ruling := selftest_ruling(plan, hosts):
        yield Ruling(verdict=ruling[0], sentence=ruling[1])


def _told(run: Run) -> str:
    return _BAD_WORDS[run.outcome] + (f" ({run.error.rstrip('.')})" if run.error else "")


def _missing(plan: GatePlan, stratum: str, hosts: Sequence[HostEvidence]) -> Iterable[Ruling]:
    verdict = Verdict.INCONCLUSIVE if plan.final else Verdict.NEED_MORE_DATA
    for host in hosts:
        if host.broken_rig:
            yield Ruling(verdict=verdict, sentence=f"{host.host} could not be measured: {host.broken_rig.rstrip('.')}.")
    required = max(1, plan.required_hosts.get(stratum, 1))
    alive = [host for host in hosts if any(run.side is Side.NEW and run.outcome is Outcome.OK for run in host.runs)]
    if len(alive) < required:
        without = [host.host for host in hosts if host not in alive]
        names = f" ({', '.join(without[:5])} without)" if without else ""
        text = f"{len(alive)} of {required} hosts have a complete run on the new kernel{names}."
        yield Ruling(verdict=verdict, sentence=text)

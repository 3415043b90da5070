"""What the workloads measured on both kernels, per stratum and metric: means, spread and counts, not judged."""

from collections.abc import Mapping
from statistics import mean, stdev

from controller.domain.judging.runs import unfit_hosts
from controller.domain.record.journey import Role, Side
from controller.domain.state.attempt import Attempt
from controller.gate.metrics import METRICS
from controller.gate.priors import PRIORS
from controller.gate.verdict import MetricRole
from controller.views.report.model import PerformanceResult
from controller.views.report.runs import HostRuns

# Raw texts of a run that say what was run; the newest run of the old kernel tells them.
_TOLD = (
    *("command", "server_command", "config", "built", "source", "compiler", "server"),
    *("zram_disksize", "zram_comp_algorithm", "zswap_parameters", "proc_swaps"),
    *("cgroup_memory_max", "cgroup_memory_limit_in_bytes"),
)


def performance(
    attempts: Mapping[str, Attempt], runs: Mapping[str, HostRuns], *, aa: bool
) -> tuple[PerformanceResult, ...]:
    """Return one row a stratum and metric that was measured on both kernels by some host, in that order.

    Hosts that only rebooted are left out, but old against old (`aa`) there are no others.
    """
    strata: dict[str, list[str]] = {}
    for name, attempt in attempts.items():
        if aa or attempt.role is not Role.CONTROL:
            strata.setdefault(attempt.stratum, []).append(name)
    found = []
    for stratum, hosts in sorted(strata.items()):
        for metric, prior in sorted(PRIORS.items()):
            if not prior.workload or prior.role is MetricRole.EXPLAIN or metric in METRICS:
                continue
            unfit = unfit_hosts((attempts[host] for host in hosts), metric)
            row = _row(stratum, metric, {host: runs[host] for host in hosts}, unfit)
            if row is not None:
                found.append(row)
    return tuple(found)


def _row(stratum: str, metric: str, runs: Mapping[str, HostRuns], unfit: Mapping[str, str]) -> PerformanceResult | None:
    measured = {
        host: own for host, own in runs.items() if own.values(Side.OLD, metric) and own.values(Side.NEW, metric)
    }
    # Where no host is fit, what there is is shown, with the reason beside it.
    both = {host: own for host, own in measured.items() if host not in unfit} or measured
    if not both:
        return None
    old = [value for own in both.values() for value in own.values(Side.OLD, metric)]
    new = [value for own in both.values() for value in own.values(Side.NEW, metric)]
    first = next(iter(both.values())).good(Side.OLD, metric)[-1]
    return PerformanceResult(
        stratum=stratum,
        workload=PRIORS[metric].workload,
        metric=metric,
        unit=PRIORS[metric].unit,
        higher_is_better=PRIORS[metric].higher_is_better,
        hosts=len(both),
        old_runs=len(old),
        new_runs=len(new),
        old=mean(old),
        new=mean(new),
        old_cv=_cv(old),
        new_cv=_cv(new),
        change=100 * (mean(new) / mean(old) - 1) if mean(old) else None,
        unqualified=tuple(sorted(unfit.items())),
        told=tuple((name, first.evidence[name]) for name in _TOLD if first.evidence.get(name)),
    )


def _cv(values: list[float]) -> float | None:
    """Return the coefficient of variation in percent; None for fewer than two values or a mean of zero."""
    return 100 * stdev(values) / mean(values) if len(values) > 1 and mean(values) else None

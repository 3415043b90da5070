"""The performance metrics that a spec's workloads yield, and their margins."""

from collections.abc import Mapping

from controller.domain.spec import RolloutSpec
from controller.domain.spec_workloads import KernelBuild, ValkeyGet, Workload
from controller.gate.priors import PRIORS, Prior, Role


def performance_metrics(spec: RolloutSpec) -> tuple[Prior, ...]:
    """Return the metrics of the spec's workloads that have a margin, by name."""
    workloads = spec.workloads.given
    return tuple(
        prior
        for name, prior in sorted(PRIORS.items())
        if prior.workload in workloads
        and prior.role is not Role.EXPLAIN
        and _is_measured(name, workloads[prior.workload])
    )


def _is_measured(metric: str, workload: Workload) -> bool:
    """Return whether the workload as it is ordered yields the metric: some have names of their own for a variant."""
    match workload:
        case KernelBuild():
            subset = bool(workload.objects) if workload.objects is not None else workload.preset == "small"
            return metric.startswith("kernel_build_subset.") == subset
        case ValkeyGet():
            return metric.endswith("_bgsave") == bool(workload.bgsave)
        case _:
            return True


def margins_of(spec: RolloutSpec) -> Mapping[str, float]:
    """Return the margin of every performance metric as a share: the spec's own, else the default."""
    return {prior.name: spec.margins.get(prior.name, prior.margin) for prior in performance_metrics(spec)}

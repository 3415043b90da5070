"""The performance metrics that a spec's workloads yield, and their margins."""

from collections.abc import Mapping

from controller.domain.spec import RolloutSpec
from controller.gate.priors import PRIORS, Prior, Role


def performance_metrics(spec: RolloutSpec) -> tuple[Prior, ...]:
    """Return the metrics of the spec's workloads that have a margin, by name."""
    workloads = spec.workloads.given
    return tuple(
        prior
        for name, prior in sorted(PRIORS.items())
        if prior.workload in workloads and prior.role is not Role.EXPLAIN
    )


def margins_of(spec: RolloutSpec) -> Mapping[str, float]:
    """Return the margin of every performance metric as a share: the spec's own, else the default."""
    return {prior.name: spec.margins.get(prior.name, prior.margin) for prior in performance_metrics(spec)}

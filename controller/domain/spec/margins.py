"""The performance metrics that workloads yield: their margins, and their noise under a design."""

import math
from collections.abc import Iterable, Mapping
from typing import Protocol

from controller.domain.spec.workloads import KernelBuild, ValkeyGet, Workload, Workloads
from controller.gate.ledger import Ledger
from controller.gate.planning.fleet_power import cell_noise
from controller.gate.planning.power import design_sigma
from controller.gate.priors import PRIORS, Prior
from controller.gate.statistics.cells import Design
from controller.gate.verdict import MetricRole

# What the designs of a rollout file are called in the gate.
GATE_DESIGNS: Mapping[str, Design] = {
    "before_after": Design.BEFORE_AFTER,
    "two_arms": Design.TWO_ARMS,
    "matched_pairs": Design.PAIRS,
    "abba": Design.ABBA,
}


class Ordered(Protocol):
    """The part of a spec that says what is measured."""

    @property
    def workloads(self) -> Workloads:
        """What runs on every kernel."""

    @property
    def margins(self) -> Mapping[str, float]:
        """Margins that are not the default, as shares."""


def performance_metrics(spec: Ordered) -> tuple[Prior, ...]:
    """Return the metrics of the spec's workloads that have a margin, by name."""
    return workload_metrics(spec.workloads)


def workload_metrics(ordered: Workloads) -> tuple[Prior, ...]:
    """Return the metrics of the workloads that have a margin, by name."""
    workloads = ordered.given
    return tuple(
        prior
        for name, prior in sorted(PRIORS.items())
        if prior.workload in workloads
        and prior.role is not MetricRole.EXPLAIN
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


def margins_of(spec: Ordered) -> Mapping[str, float]:
    """Return the margin of every performance metric as a share: the spec's own, else the default."""
    return {prior.name: spec.margins.get(prior.name, prior.margin) for prior in performance_metrics(spec)}


def contrast_sigma(design: str, ordered: Workloads, stratum: str, prior: Prior, ledger: Ledger) -> float:
    """Return the standard deviation of one contrast of a metric in log units, by what the ledger knows of it."""
    noise = cell_noise(ledger, stratum, prior, ordered.given[prior.workload].repetitions)
    return design_sigma(GATE_DESIGNS[design], change_sd=noise.change.sigma, host_kernel_sd=noise.host_kernel.sigma)


def contrast_sigmas(
    design: str, ordered: Workloads, strata: Iterable[str], ledger: Ledger
) -> Mapping[str, Mapping[str, float]]:
    """Return stratum -> metric -> standard deviation of one contrast as a share; empty without a design."""
    if GATE_DESIGNS[design] is Design.BEFORE_AFTER:
        return {}
    return {
        stratum: {
            prior.name: math.expm1(contrast_sigma(design, ordered, stratum, prior, ledger))
            for prior in workload_metrics(ordered)
        }
        for stratum in sorted(strata)
    }

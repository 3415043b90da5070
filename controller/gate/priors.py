"""Performance metrics with stated priors: noise, margin and role, until a ledger of old-vs-old runs knows better.

The coefficients of variation are upper ends of what runs on quiet hosts show, so that a first plan asks for too many
hosts rather than too few.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from controller.gate.verdict import MetricRole


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What is known of a metric before anything has been measured on the fleet."""

    name: str
    # The agent's workload that yields it; empty for what is recorded beside every workload.
    workload: str
    unit: str
    higher_is_better: bool
    # Standard deviation of one run, as a share of its mean.
    cv: float
    # Default margin as a share; a negative control must stay within it both ways. 0 for metrics that never decide.
    margin: float
    role: MetricRole


# A boot shifts all its runs together, by about a third of what single runs differ.
BOOT_SHARE: Final = 1 / 3
# How much a kernel's effect differs between hosts of one stratum: half a percentage point, in log units. The published
# effects of such series are 1 to 2.5 %, and a difference between hosts beyond half of that would be another effect.
HOST_KERNEL_SD: Final = 0.005


def _low(of: tuple[str, str], unit: str, noise: tuple[float, float], role: MetricRole) -> Prior:
    """A metric of which less is better; `of` is its workload and name, `noise` its variation and its margin."""
    return Prior(workload=of[0], name=of[1], unit=unit, higher_is_better=False, cv=noise[0], margin=noise[1], role=role)


def _high(of: tuple[str, str], unit: str, noise: tuple[float, float], role: MetricRole) -> Prior:
    """A metric of which more is better."""
    return Prior(workload=of[0], name=of[1], unit=unit, higher_is_better=True, cv=noise[0], margin=noise[1], role=role)


# The differences of counters and rates such as PSI from boot to boot are large; hence their margin.
PRIORS: Final[Mapping[str, Prior]] = {
    prior.name: prior
    for prior in (
        *(
            prior
            # A build of a few objects has names of its own, so that it never passes for the whole kernel's.
            for build in ("kernel_build", "kernel_build_subset")
            for prior in (
                _low(("kernel_build", f"{build}.system_time"), "s", (0.03, 0.03), MetricRole.CRITICAL),
                _low(("kernel_build", f"{build}.elapsed"), "s", (0.03, 0.03), MetricRole.GUARD),
                _low(("kernel_build", f"{build}.user_time"), "s", (0.01, 0.01), MetricRole.NEGATIVE_CONTROL),
            )
        ),
        _high(("valkey_get", "valkey.get_rate"), "requests/s", (0.03, 0.03), MetricRole.CRITICAL),
        _high(("valkey_get", "valkey.get_rate_bgsave"), "requests/s", (0.10, 0.07), MetricRole.CRITICAL),
        _low(("valkey_get", "valkey.p99"), "ms", (0.15, 0.15), MetricRole.GUARD),
        _low(("valkey_get", "valkey.p99_bgsave"), "ms", (0.15, 0.15), MetricRole.GUARD),
        _high(("anon_sweep", "anonymous_sweep.throughput"), "MB/s", (0.05, 0.05), MetricRole.CRITICAL),
        _high(("stress_ng", "stress.bogo_rate"), "bogo-op/s", (0.10, 0.10), MetricRole.GUARD),
        _low(("swap_mount", "swap_mount.swapon_time"), "s", (0.10, 0.10), MetricRole.GUARD),
        _low(("swap_mount", "swap_mount.swapoff_time"), "s", (0.10, 0.10), MetricRole.GUARD),
        _low(("swap_fill", "swap_fill.cost"), "MiB/TiB", (0.02, 0.05), MetricRole.CRITICAL),
        _low(("swap_fill", "swapoff.time"), "s", (0.10, 0.10), MetricRole.GUARD),
        _low(("", "psi.memory_some"), "% of time", (0.15, 0.20), MetricRole.GUARD),
        _low(("", "psi.memory_full"), "% of time", (0.15, 0.20), MetricRole.GUARD),
        _low(("", "psi.io_some"), "% of time", (0.15, 0.20), MetricRole.GUARD),
        _low(("", "psi.io_full"), "% of time", (0.15, 0.20), MetricRole.GUARD),
        *(
            _low(("", f"vmstat.{counter}"), "pages", (0.25, 0.0), MetricRole.EXPLAIN)
            for counter in (
                "allocstall",
                "pgmajfault",
                "pgscan",
                "pgsteal",
                "pswpin",
                "pswpout",
                "thp_swpout",
                "thp_swpout_fallback",
                "workingset_refault_anon",
                "zswpin",
                "zswpout",
            )
        ),
    )
}

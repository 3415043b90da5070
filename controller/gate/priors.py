"""Performance metrics with stated priors: noise, margin and role, until a ledger of old-vs-old runs knows better.

The coefficients of variation are upper ends of what runs on quiet hosts show, so that a first plan asks for too many
hosts rather than too few.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a metric may decide."""

    CRITICAL = "critical"  # must PASS to promote, reverts when it FAILs
    GUARD = "guard"  # pauses when it FAILs
    NEGATIVE_CONTROL = "negative_control"  # cannot depend on the kernel: when it moves, the rig moved
    EXPLAIN = "explain"  # never decides


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What is known of a metric before anything has been measured on the fleet."""

    name: str
    unit: str
    higher_is_better: bool
    # Standard deviation of one run, as a share of its mean.
    cv: float
    # Default margin as a share; a negative control must stay within it both ways. 0 for metrics that never decide.
    margin: float
    role: Role


def _prior(name: str, unit: str, better: str, cv: float, margin: float, role: Role) -> Prior:  # noqa: PLR0917
    return Prior(name=name, unit=unit, higher_is_better=better == "high", cv=cv, margin=margin, role=role)


# The differences of counters and rates such as PSI from boot to boot are large; hence their margin.
PRIORS: Final[Mapping[str, Prior]] = {
    prior.name: prior
    for prior in (
        _prior("kernel_build.system_time", "s", "low", 0.03, 0.03, Role.CRITICAL),
        _prior("kernel_build.elapsed", "s", "low", 0.03, 0.03, Role.GUARD),
        _prior("kernel_build.user_time", "s", "low", 0.01, 0.01, Role.NEGATIVE_CONTROL),
        _prior("valkey.get_rate", "requests/s", "high", 0.03, 0.03, Role.CRITICAL),
        _prior("valkey.get_rate_bgsave", "requests/s", "high", 0.10, 0.07, Role.CRITICAL),
        _prior("valkey.p99", "ms", "low", 0.15, 0.15, Role.GUARD),
        _prior("anonymous_sweep.throughput", "MB/s", "high", 0.05, 0.05, Role.CRITICAL),
        _prior("stress.bogo_rate", "bogo-op/s", "high", 0.10, 0.10, Role.GUARD),
        _prior("swapoff.time", "s", "low", 0.10, 0.10, Role.GUARD),
        _prior("psi.memory_some", "% of time", "low", 0.15, 0.20, Role.GUARD),
        _prior("psi.memory_full", "% of time", "low", 0.15, 0.20, Role.GUARD),
        _prior("psi.io_some", "% of time", "low", 0.15, 0.20, Role.GUARD),
        _prior("psi.io_full", "% of time", "low", 0.15, 0.20, Role.GUARD),
        *(
            _prior(f"vmstat.{counter}", "pages", "low", 0.25, 0.0, Role.EXPLAIN)
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

"""The metrics on which a claim can be decided, and how exactly each one is measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One nearly deterministic metric, judged by a known measurement error instead of an estimated one."""

    name: str
    # The agent's workload that yields it.
    workload: str
    unit: str
    # What a reader calls it.
    title: str
    # Standard deviation of one run around the truth of its host and boot, in the unit, on a device of 1 TiB. A smaller
    # device divides the same few MiB of noise by fewer TiB, so this grows as 1/size.
    sigma_run: float
    # Standard deviation of one host's own saving around the mean of its stratum, in the unit; the prior until a ledger
    # of earlier rollouts replaces it.
    sigma_host: float
    # A larger value is no measurement.
    maximum: float


# No device costs more memory than it offers.
MIB_PER_TIB: Final = 2.0**20

# The error of a run is what a settled, idle host's used memory still moves between two readings (some hundred pages);
# the error of a host is a different boot's memory layout. Both are declared wide: the gate refuses to decide when the
# observed spread contradicts them.
METRICS: Final[Mapping[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric(
            name="swap_mount.cost",
            workload="swap_mount",
            unit="MiB/TiB",
            title="used memory added by mounting an idle swap device",
            sigma_run=2.0,
            sigma_host=1.0,
            maximum=MIB_PER_TIB,
        ),
        Metric(
            name="swap_mount.memfree_cost",
            workload="swap_mount",
            unit="MiB/TiB",
            title="free memory taken by mounting an idle swap device",
            sigma_run=4.0,
            sigma_host=2.0,
            maximum=MIB_PER_TIB,
        ),
    )
}

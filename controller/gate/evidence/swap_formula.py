"""What an idle swap device must cost by the sizes of the kernel's own structures, to check a measurement against.

Explains, never decides: a developer's kernel may differ from the upstream version in its name. Sources: struct
swap_info_struct, struct swap_cluster_info and swap_cgroup of the named versions, confirmed by measurements on
distribution kernels.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MIB: Final = 2**20
TIB: Final = 2**40
# Slots per cluster: as many as make one huge page, by page size.
_CLUSTER_SLOTS: Final = {4096: 512, 16384: 2048, 65536: 8192}
# A measurement that differs by more than the larger of these has another cause than the structures.
TOLERANCE_SHARE: Final = 0.02
TOLERANCE_MIB: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """The static structures of a range of kernel versions: what every slot costs as soon as the device is mounted."""

    name: str
    # First version of the range, and the first after it; None for the newest.
    since: tuple[int, int]
    until: tuple[int, int] | None
    map_bytes: float
    cgroup_bytes: float
    zeromap_bytes: float
    # One record per cluster.
    cluster_bytes: int


GENERATIONS: Final[Sequence[Generation]] = (
    Generation(
        name="before the swap table",
        since=(6, 12),
        until=(6, 13),
        map_bytes=1,
        cgroup_bytes=2,
        zeromap_bytes=1 / 8,
        cluster_bytes=24,
    ),
    Generation(
        name="swap table phases I and II",
        since=(6, 18),
        until=(7, 1),
        map_bytes=1,
        cgroup_bytes=2,
        zeromap_bytes=1 / 8,
        cluster_bytes=32,
    ),
    Generation(
        name="swap table phase III, no swap_map",
        since=(7, 1),
        until=(7, 2),
        map_bytes=0,
        cgroup_bytes=2,
        zeromap_bytes=1 / 8,
        cluster_bytes=40,
    ),
    Generation(
        name="swap table phase IV, all metadata dynamic",
        since=(7, 2),
        until=None,
        map_bytes=0,
        cgroup_bytes=0,
        zeromap_bytes=0,
        cluster_bytes=48,
    ),
)


def slots_per_tib(page_size_bytes: int) -> int:
    """Return how many pages fit 1 TiB of swap."""
    return TIB // page_size_bytes


def generation(release: str) -> Generation | None:
    """Return the structures behind a `uname -r`; None for versions nobody has looked at."""
    match = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", release)
    if match is None:
        return None
    version = (int(match[1]), int(match[2]))
    for one in GENERATIONS:
        if one.since <= version and (one.until is None or version < one.until):
            return one
    return None


def expected_mib_per_tib(release: str, page_size_bytes: int) -> float | None:
    """Return the cost of mounting an idle device, in MiB per TiB; None when the version or page size is unknown."""
    found, cluster_slots = generation(release), _CLUSTER_SLOTS.get(page_size_bytes)
    if found is None or cluster_slots is None:
        return None
    per_slot = found.map_bytes + found.cgroup_bytes + found.zeromap_bytes + found.cluster_bytes / cluster_slots
    return slots_per_tib(page_size_bytes) * per_slot / MIB


def compare(release: str, page_size_bytes: int, measured_mib_per_tib: float) -> str:
    """Return one sentence that sets a measured cost against the structure sizes; empty when there is no formula."""
    expected = expected_mib_per_tib(release, page_size_bytes)
    found = generation(release)
    if expected is None or found is None:
        return ""
    difference = measured_mib_per_tib - expected
    agrees = abs(difference) <= max(TOLERANCE_SHARE * expected, TOLERANCE_MIB)
    return (
        f"{release}: {measured_mib_per_tib:.1f} MiB/TiB measured, {expected:.1f} by structure sizes ({found.name}): "
        + (f"they agree to {abs(difference):.1f} MiB." if agrees else f"they differ by {difference:+.1f} MiB.")
    )

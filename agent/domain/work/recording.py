"""What is recorded with every run: two readings of the kernel's counters, and what lies between them as samples.

docs/workloads.md describes every sample and every piece of evidence.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.domain.host.counters import ProcessorTime, StallTime, grown
from agent.domain.host.facts import parse_swaps
from agent.domain.host.memory import MIB
from agent.domain.results import Sample

# Metric below "vmstat." to the counters that it sums up; a prefix ends with "*". One that no kernel file has is absent.
VMSTAT_SUMS: Final[Mapping[str, tuple[str, ...]]] = {
    "allocstall": ("allocstall", "allocstall_*"),
    "pgmajfault": ("pgmajfault",),
    # The counters by actor (pgscan_kswapd, pgscan_direct, ...) leave out what is reclaimed for a cgroup's limit.
    "pgscan": ("pgscan_anon", "pgscan_file"),
    "pgsteal": ("pgsteal_anon", "pgsteal_file"),
    "pswpin": ("pswpin",),
    "pswpout": ("pswpout",),
    "thp_swpout": ("thp_swpout",),
    "thp_swpout_fallback": ("thp_swpout_fallback",),
    "workingset_refault_anon": ("workingset_refault_anon",),
    "zswpin": ("zswpin",),
    "zswpout": ("zswpout",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at everything; an empty mapping or text where the kernel shows nothing."""

    # Seconds, from the same origin as the other reading of the run.
    at_s: float
    vmstat: Mapping[str, int] = field(default_factory=dict)
    # By resource: "cpu", "memory", "io".
    pressure: Mapping[str, StallTime] = field(default_factory=dict)
    # /proc/meminfo, in bytes.
    meminfo: Mapping[str, int] = field(default_factory=dict)
    # mm_stat by device, of devices that are set up.
    zram: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    # Counters below debugfs.
    zswap: Mapping[str, int] = field(default_factory=dict)
    # Caches of swap, in bytes.
    slabs: Mapping[str, int] = field(default_factory=dict)
    # By sensor, in thousandths of a degree Celsius.
    temperature_millicelsius: Mapping[str, int] = field(default_factory=dict)
    # By processor.
    frequency_khz: Mapping[str, int] = field(default_factory=dict)
    # /proc/swaps as read.
    swaps: str = ""
    # None where the kernel does not count stolen time.
    processor_time: ProcessorTime | None = None
    # How often processors were slowed down for their heat. None where they do not count it.
    throttled: int | None = None


def samples_between(before: Reading, after: Reading) -> tuple[Sample, ...]:
    """Return what happened between two readings; nothing for what a kernel does not count."""
    return (
        *_vmstat_samples(before, after),
        *_pressure_samples(before, after),
        *_zram_samples(after),
        *_processor_samples(before, after),
    )


def foreign_swap_sample(before: Reading, after: Reading, own: Collection[str]) -> Sample:
    """Return how much other swap than the workload's was in use, before or after the run, whichever is more."""
    used = [
        sum(area.used_bytes for area in parse_swaps(reading.swaps) if area.path not in own)
        for reading in (before, after)
    ]
    return Sample(metric="swap.foreign_used", value=max(used) / MIB, unit="MiB")


def evidence_between(before: Reading, after: Reading) -> dict[str, str]:
    """Return the readings as JSON documents and texts, by name; what the kernel does not show is left out."""
    documents: dict[str, object] = {
        "vmstat_delta": grown(before.vmstat, after.vmstat),
        "meminfo_delta_bytes": grown(before.meminfo, after.meminfo),
        "slab_bytes": {"before": dict(before.slabs), "after": dict(after.slabs)} if after.slabs else {},
        "zram": {name: dict(values) for name, values in after.zram.items()},
        "zswap": {name: dict(values) for name, values in (("before", before.zswap), ("after", after.zswap)) if values},
        "temperature_millicelsius": _both(before.temperature_millicelsius, after.temperature_millicelsius),
        "frequency_khz": _both(before.frequency_khz, after.frequency_khz),
    }
    evidence = {name: json.dumps(document, sort_keys=True) for name, document in documents.items() if document}
    if after.swaps:
        evidence["proc_swaps_after"] = after.swaps
    return evidence


def counter(vmstat: Mapping[str, int], metric: str) -> int | None:
    """Return one of VMSTAT_SUMS; None when the kernel counts none of its parts."""
    found = []
    for name in VMSTAT_SUMS[metric]:
        if name.endswith("*"):
            found += [value for counted, value in vmstat.items() if counted.startswith(name[:-1])]
        elif name in vmstat:
            found.append(vmstat[name])
    return sum(found) if found else None


def _vmstat_samples(before: Reading, after: Reading) -> list[Sample]:
    samples = []
    for metric in VMSTAT_SUMS:
        first, last = counter(before.vmstat, metric), counter(after.vmstat, metric)
        if first is not None and last is not None:
            samples.append(Sample(metric=f"vmstat.{metric}", value=float(last - first), unit="pages"))
    if "oom_kill" in before.vmstat and "oom_kill" in after.vmstat:
        killed = after.vmstat["oom_kill"] - before.vmstat["oom_kill"]
        samples.append(Sample(metric="vmstat.oom_kill", value=float(killed), unit="count"))
    return samples


def _pressure_samples(before: Reading, after: Reading) -> list[Sample]:
    elapsed_us = (after.at_s - before.at_s) * 1e6
    samples = []
    for resource, last in after.pressure.items():
        first = before.pressure.get(resource)
        # For the processors "full" has no meaning outside of a cgroup.
        if first is None or elapsed_us <= 0 or resource == "cpu":
            continue
        times = [("some", last.some_us - first.some_us)]
        if last.full_us is not None and first.full_us is not None:
            times.append(("full", last.full_us - first.full_us))
        samples += [
            Sample(metric=f"psi.{resource}_{kind}", value=100 * stalled_us / elapsed_us, unit="% of time")
            for kind, stalled_us in times
        ]
    return samples


def _zram_samples(after: Reading) -> list[Sample]:
    # What is stored at the end of a run says nothing: the workload's processes have given it back by then.
    peaks = [values["memory_peak_bytes"] for values in after.zram.values() if "memory_peak_bytes" in values]
    return [Sample(metric="zram.memory_peak", value=sum(peaks) / MIB, unit="MiB")] if peaks else []


def _processor_samples(before: Reading, after: Reading) -> list[Sample]:
    samples = []
    first, last = before.processor_time, after.processor_time
    if first is not None and last is not None and last.total > first.total:
        share = 100 * max(0, last.stolen - first.stolen) / (last.total - first.total)
        samples.append(Sample(metric="cpu.stolen", value=share, unit="% of time"))
    if before.throttled is not None and after.throttled is not None:
        times = float(after.throttled - before.throttled)
        samples.append(Sample(metric="cpu.throttled", value=times, unit="count"))
    return samples


def _both(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, dict[str, int]]:
    return {"before": dict(before), "after": dict(after)} if before or after else {}

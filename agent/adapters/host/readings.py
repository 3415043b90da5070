"""Reading the kernel's counters; a file that is not there or not readable gives nothing."""

import os
from pathlib import Path

from agent.adapters.host.host import read_text
from agent.domain.host.counters import (
    StallTime,
    parse_mm_stat,
    parse_pairs,
    parse_pressure,
    parse_processor_time,
    parse_sizes,
    parse_slabs,
)
from agent.domain.numbers import is_number
from agent.domain.work.recording import Reading

_RESOURCES = ("cpu", "memory", "io")


class KernelReadings:
    """Reads what belongs to one run."""

    def __init__(self, proc: Path, sys: Path) -> None:
        self._proc = proc
        self._sys = sys

    def read(self, at_s: float) -> Reading:
        """Read everything."""
        proc, sys = self._proc, self._sys
        return Reading(
            at_s=at_s,
            vmstat=parse_pairs(read_text(proc / "vmstat")),
            pressure=self._pressure(),
            meminfo=parse_sizes(read_text(proc / "meminfo")),
            zram=self._zram(),
            zswap=_numbers(sys / "kernel/debug/zswap"),
            slabs=parse_slabs(read_text(proc / "slabinfo"), page_bytes=os.sysconf("SC_PAGE_SIZE")),
            temperature_millicelsius={
                f"{zone.name} {read_text(zone / 'type')}".strip(): int(degrees)
                for zone in sorted(sys.glob("class/thermal/thermal_zone*"))
                if is_number((degrees := read_text(zone / "temp")).removeprefix("-"))
            },
            frequency_khz={
                file.parent.parent.name: int(khz)
                for file in sorted(sys.glob("devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"))
                if is_number(khz := read_text(file))
            },
            swaps=read_text(proc / "swaps"),
            processor_time=parse_processor_time(read_text(proc / "stat")),
            throttled=self._throttled(),
        )

    def glance(self, at_s: float) -> Reading:
        """Read only what a time series shows: four small files."""
        return Reading(
            at_s=at_s,
            vmstat=parse_pairs(read_text(self._proc / "vmstat")),
            pressure=self._pressure(),
            meminfo=parse_sizes(read_text(self._proc / "meminfo")),
            zram=self._zram(),
        )

    def _pressure(self) -> dict[str, StallTime]:
        found = {each: parse_pressure(read_text(self._proc / "pressure" / each)) for each in _RESOURCES}
        return {resource: stalled for resource, stalled in found.items() if stalled is not None}

    def _throttled(self) -> int | None:
        # A package's count stands with each of its processors; a core's is enough to tell that there was heat.
        files = self._sys.glob("devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
        counts = [int(text) for file in files if is_number(text := read_text(file))]
        return sum(counts) if counts else None

    def _zram(self) -> dict[str, dict[str, int]]:
        return {
            file.parent.name: parse_mm_stat(read_text(file))
            for file in sorted(self._sys.glob("block/zram*/mm_stat"))
            # One that is not set up counts nothing.
            if read_text(file.parent / "disksize") not in {"", "0"}
        }


def _numbers(directory: Path) -> dict[str, int]:
    try:
        files = sorted(directory.iterdir())
    except OSError:
        return {}
    return {file.name: int(text) for file in files if is_number(text := read_text(file))}

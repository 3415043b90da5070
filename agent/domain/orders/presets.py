"""Named parameters: the cover letter's own values, and ones that fit a small machine.

The cover letter is that of "mm, swap: swap table phase III: remove swap_map" (v3, 18 February 2026). It names neither
the size of its zram nor that of its ZSWAP device, so those are ours; its machines had 1.5 and 5 GB of memory and no
limit but that (global pressure).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from agent.domain.errors import InvalidOrder
from agent.domain.host.memory import GIB, MIB
from agent.domain.orders.fields import Values, build, merge

_O = TypeVar("_O")


class Preset(StrEnum):
    """Whose values a workload starts from."""

    SMALL = "small"  # fits a machine of 1 GB and an emulated processor
    SERIES_X86_ZSWAP = "series-x86-zswap"  # S2: x86_64, ZSWAP over a device that the operator names
    SERIES_ARM64_ZRAM = "series-arm64-zram"  # S3, S4, S5: arm64, zram


_ZRAM_SMALL = {"kind": "zram", "size_bytes": 512 * MIB}
_ZRAM_SERIES = {"kind": "zram", "size_bytes": 4 * GIB}

PRESETS: Mapping[Preset, Mapping[str, Values]] = {
    Preset.SMALL: {
        "swap_mount": {"swap": {"kind": "brd", "size_bytes": 64 * GIB}},
        "swap_fill": {"swap": {"kind": "zram", "size_bytes": 16 * GIB}},
        "swap_integrity": {
            "swap": {"kind": "zram", "size_bytes": 128 * MIB},
            "pressure": {"memory_limit_bytes": 96 * MIB},
            "memory_bytes": 64 * MIB,
        },
        "swap_mount_indicator": {"swap": {"kind": "zram", "size_bytes": 256 * MIB}, "memory_bytes": 64 * MIB},
        "kernel_build": {
            "swap": _ZRAM_SMALL,
            "pressure": {"memory_limit_bytes": 48 * MIB},
            "config": "tinyconfig",
            "jobs": 2,
            "objects": ("mm/memory.o", "mm/vmscan.o", "kernel/fork.o", "kernel/sched/core.o", "fs/namei.o"),
        },
        "valkey_get": {
            "swap": _ZRAM_SMALL,
            "pressure": {"memory_limit_bytes": 64 * MIB},
            "maxmemory_bytes": 160 * MIB,
            "keys": 100_000,
            "requests": 300_000,
        },
        "anon_sweep": {
            "swap": _ZRAM_SMALL,
            "pressure": {"memory_limit_bytes": 96 * MIB},
            "memory_bytes": 192 * MIB,
        },
        "mm_selftests": {
            "swap": _ZRAM_SMALL,
            # Some test programs hold huge pages of 64 MiB and more at once.
            "pressure": {"memory_limit_bytes": 128 * MIB},
            "memory_bytes": 192 * MIB,
        },
        "stress_ng": {
            "swap": _ZRAM_SMALL,
            # A method of the vm stressor counts when it has gone over everything, which an emulated processor must
            # manage several times.
            "pressure": {"memory_limit_bytes": 32 * MIB},
            "vm_workers": 1,
            "vm_bytes": 48 * MIB,
            # Under a limit the kernel kills swap stressors while they count, which makes a run invalid.
            "swap_workers": 0,
            "duration_s": 30.0,
        },
    },
    Preset.SERIES_X86_ZSWAP: {
        "swap_mount": {"swap": {"kind": "brd", "size_bytes": 1 << 40}},
        "kernel_build": {"swap": {"zswap": True}, "config": "defconfig", "jobs": 48},
    },
    Preset.SERIES_ARM64_ZRAM: {
        "swap_mount": {"swap": {"kind": "brd", "size_bytes": 1 << 40}},
        "kernel_build": {"swap": _ZRAM_SERIES, "config": "tinyconfig", "jobs": 12},
        "valkey_get": {
            "swap": _ZRAM_SERIES,
            "maxmemory_bytes": 2560 * MIB,
            "keys": 3_000_000,
            "requests": 3_000_000,
            "value_bytes": 1024,
            "clients": 12,
            "pipeline": 32,
        },
    },
}


def presets_of(workload: str) -> tuple[Preset, ...]:
    """Return the presets that have values for this workload."""
    return tuple(preset for preset in Preset if workload in PRESETS[preset])


def order_from(order: type[_O], workload: str, preset: str, explicit: Values) -> _O:
    """Return the order: defaults, then the preset's values, then what was said explicitly. Raises InvalidOrder."""
    values: Any = {}
    if preset:
        if preset not in presets_of(workload):
            choice = ", ".join(presets_of(workload)) or "none"
            raise InvalidOrder(f"{workload} has no preset {preset!r}; it has {choice}")
        values = PRESETS[Preset(preset)][workload]
    return build(order, merge(values, explicit))

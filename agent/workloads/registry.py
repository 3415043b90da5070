"""The workloads that this agent knows: a new one is a line here, beside its module, its order and its message."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.adapters.environment import read_environment
from agent.adapters.readings import KernelReadings
from agent.domain.orders import (
    AnonSweepOrder,
    KernelBuildOrder,
    MmSelftestsOrder,
    Order,
    PanicDrillOrder,
    StressNgOrder,
    SwapFillOrder,
    SwapIntegrityOrder,
    SwapMountIndicatorOrder,
    SwapMountOrder,
    ValkeyGetOrder,
)
from agent.domain.swap_source import SourceKind
from agent.workloads.anon_sweep import AnonSweep
from agent.workloads.kernel_build import KernelBuild
from agent.workloads.mm_selftests import MmSelftests
from agent.workloads.panic_drill import PanicDrill
from agent.workloads.port import Host, Workload
from agent.workloads.recorded import Recorded
from agent.workloads.stress_ng import StressNg
from agent.workloads.swap_fill import SwapFill
from agent.workloads.swap_integrity import SwapIntegrity
from agent.workloads.swap_mount import SwapMount
from agent.workloads.swap_mount_indicator import SwapMountIndicator
from agent.workloads.valkey_get import ValkeyGet

_VERSION_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Kind:
    """What is ordered, and what carries it out."""

    order: type[Order]
    # Called with an order of that type and the host.
    make: Callable[[Any, Host], Workload]
    # Whether a point a second is recorded. Not where some MiB more or less of memory are what is measured.
    every_second: bool = True


_KINDS = (
    Kind(SwapMountOrder, SwapMount, every_second=False),
    Kind(SwapFillOrder, SwapFill, every_second=False),
    Kind(SwapIntegrityOrder, SwapIntegrity),
    Kind(SwapMountIndicatorOrder, SwapMountIndicator),
    Kind(KernelBuildOrder, KernelBuild),
    Kind(ValkeyGetOrder, ValkeyGet),
    Kind(AnonSweepOrder, AnonSweep),
    Kind(StressNgOrder, StressNg),
    Kind(MmSelftestsOrder, MmSelftests),
    Kind(PanicDrillOrder, PanicDrill, every_second=False),
)
KINDS: Final[Mapping[str, Kind]] = {kind.order.workload: kind for kind in _KINDS}


def workload_for(order: Order, host: Host) -> Workload:
    """Return the workload that carries out an order, recorded."""
    kind = KINDS[order.workload]
    return Recorded(
        kind.make(order, host),
        host,
        KernelReadings(host.proc, host.sys),
        environment=lambda: _environment(host),
        every_second=kind.every_second,
        # A drill swaps to nothing of its own, and takes nobody else's.
        own_swap=not isinstance(order, PanicDrillOrder) and order.swap.kind is not SourceKind.EXISTING,
    )


async def _environment(host: Host) -> str:
    async def ask_version(tool: str) -> str:
        if not host.tools.has(tool):
            return ""
        completed = await host.tools.run((tool, "--version"), timeout_s=_VERSION_TIMEOUT_S)
        # Some tell it as a complaint about an option that they do not know.
        return completed.stdout or completed.complaint

    return (await read_environment(ask_version, proc=host.proc, sys=host.sys)).document()
